# SPDX-License-Identifier: MIT
"""Symbols, atomic numbers and formulas of elements."""

import numpy as np
import pytest

from dtnn_fast.crystals.elements import SYMBOLS, atomic_masses, atomic_number, formula, symbol


def test_symbols_equal_pymatgens():
    periodic_table = pytest.importorskip("pymatgen.core").Element
    assert [periodic_table.from_Z(z).symbol for z in range(1, 119)] == list(SYMBOLS[1:])


def test_symbol_and_number_round_trip():
    assert all(atomic_number(symbol(z)) == z for z in range(1, 119))
    assert atomic_number("D") == atomic_number("T") == 1


def test_masses_equal_ases():
    numbers = np.arange(1, 119)
    expected = pytest.importorskip("ase.data").atomic_masses[numbers]
    np.testing.assert_allclose(atomic_masses(numbers), expected, rtol=1e-6)


@pytest.mark.parametrize("wrong", [0, -1, 119])
def test_no_mass(wrong):
    with pytest.raises(ValueError, match=f"1 to 118, got {wrong}"):
        atomic_masses(np.array([8, wrong]))


@pytest.mark.parametrize("wrong", [0, -1, 119])
def test_no_such_number(wrong):
    with pytest.raises(ValueError, match=f"1 to 118, got {wrong}"):
        symbol(wrong)


@pytest.mark.parametrize("wrong", ["X", "fe", "FE", "", "Xx"])
def test_no_such_symbol(wrong):
    with pytest.raises(ValueError, match=f"'{wrong}' is not the symbol"):
        atomic_number(wrong)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([8, 14, 8], "SiO2"),
        ([22, 8, 38, 8, 8], "SrTiO3"),
        ([11, 17] * 4, "NaCl"),
        ([1, 8, 1], "H2O"),
        ([7, 1, 1, 1], "NH3"),
        ([6], "C"),
        ([57, 29, 8, 8, 58], "LaCeCuO2"),
        ([0, 8], "?O"),
        ([], ""),
    ],
)
def test_formula(numbers, expected):
    assert formula(numbers) == expected

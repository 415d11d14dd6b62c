# SPDX-License-Identifier: MIT
"""POSCAR files of VASP 4 to 6 name the same crystal as in VASP, or are refused."""

import re

import numpy as np
import pytest

from dtnn_fast.errors import BadFileError
from dtnn_fast.formats.reading import read_crystals

POSITIONS = ["0 0 0", "0 .5 .5", ".5 0 .5", ".5 .5 0", ".5 .5 .5", ".5 0 0", "0 .5 0", "0 0 .5"]
MGO = [12] * 4 + [8] * 4
FREE, FIXED = ["T T T"] * 8, ["F F F"] * 8


def poscar(comment="rock salt", symbols="", counts="4 4", mode="Direct", behind=("",) * 8, scale="4.2", end=""):
    head = f"{comment}\n{scale}\n1 0 0\n0 1 0\n0 0 1\n" + (f"{symbols}\n" if symbols else "")
    atoms = "".join(f"{xyz} {words}".rstrip() + "\n" for xyz, words in zip(POSITIONS, behind, strict=True))
    return f"{head}{counts}\n{mode}\n{atoms}{end}"


def read(tmp_path, text):
    path = tmp_path / "a.vasp"
    path.write_bytes(text.encode())
    (crystal,) = read_crystals(path)
    return crystal


def expect_refused(tmp_path, text, message):
    with pytest.raises(BadFileError) as caught:
        read(tmp_path, text)
    assert re.search(message, str(caught.value)), str(caught.value)


SELECTIVE = "Selective dynamics\nDirect"
BY_ATOM = ["Mg"] * 4 + ["O"] * 4


@pytest.mark.parametrize(
    "text",
    [
        # case 01: flags are never elements, symbols are in the comment
        poscar("Mg O", mode=SELECTIVE, behind=FIXED),
        poscar("Mg O", mode=SELECTIVE, behind=FREE),
        poscar("Mg O", mode=SELECTIVE, behind=FREE[:4] + FIXED[:4]),
        poscar("Mg O", behind=FIXED),  # without the line of selective dynamics
        poscar("Mg O", mode=SELECTIVE, behind=[".TRUE. .FALSE. t"] * 8),
        poscar("Mg O ! relaxed", mode=SELECTIVE, behind=FIXED),
        poscar("Mg4 O4"),  # as pymatgen writes it
        poscar("Mg_pv O/0a1b2c"),
        # symbols behind the positions, before or behind the flags
        poscar(behind=BY_ATOM),
        poscar("Mg O", behind=BY_ATOM),
        poscar(mode=SELECTIVE, behind=[f"T F T {symbol}" for symbol in BY_ATOM]),
        poscar(mode=SELECTIVE, behind=[f"{symbol} F F F" for symbol in BY_ATOM]),
        poscar(behind=[f"{symbol} T T F" for symbol in BY_ATOM]),
        poscar(behind=[f"{symbol} ! site" for symbol in BY_ATOM]),
        # line 6, as VASP 5 and 6 write it, wrapped and with comments: case 23
        poscar(symbols="Mg O", mode=SELECTIVE, behind=FREE),
        poscar(symbols="Mg_pv/f474ac0d O_s"),
        poscar(symbols="Mg O ! species", counts="4 4 # numbers"),
        poscar(symbols="Mg\nO", counts="4\n4"),
        poscar(symbols="Mg Mg\nO O", counts="2 2\n2 2"),
        poscar(symbols="Mg Mg O O", counts="2 2\n2 2"),
        poscar(symbols="Mg O", behind=BY_ATOM),
        poscar(symbols="Mg O", behind=["1.5 2.5 0"] * 8),
        poscar(symbols="Mg O", behind=["A", *["B"] * 7]),  # labels of sites, not all of them symbols
        # the scale
        poscar(symbols="Mg O", scale="4.2 ! Angstrom"),
        poscar(symbols="Mg O", scale="4.2 4.2d0 4.2E0"),
        poscar(symbols="Mg O", scale="-74.088"),
        # what follows the positions
        poscar(symbols="Mg O", end="\n" + "0.1 0.2 0.3\n" * 8 + "\n1\n0.5\n" + " 0.1E+00 0.2 0.3\n" * 24),
        poscar(symbols="Mg O", end="Cartesian\n" + "0.1 0.2 0.3\n" * 8),
        poscar(symbols="Mg O", end="Lattice velocities and vectors\n1\n" + "0.1 0.2 0.3\n" * 6),
        poscar(symbols="Mg O", end="\n  48  48  48\n 0.1 0.2 0.3 0.4 0.5\n"),  # a CHGCAR
        poscar(symbols="Mg O").replace("\n", "\r\n"),
        poscar(symbols="Mg O").replace("\n", "\r"),
        poscar("rock\x0csalt\u2028\x85", symbols="Mg O"),
        poscar("{data_1}", symbols="Mg O"),
        poscar("data_MgO", symbols="Mg O"),
        poscar("8", symbols="Mg O"),
    ],
)
def test_magnesium_oxide(tmp_path, text):
    crystal = read(tmp_path, text)
    assert crystal.atomic_numbers.tolist() == MGO
    np.testing.assert_allclose(crystal.cell, 4.2 * np.eye(3), atol=1e-12)
    np.testing.assert_allclose(crystal.positions[[1, 4]], [[0, 2.1, 2.1], [2.1, 2.1, 2.1]], atol=1e-12)


@pytest.mark.parametrize("mode", ["Cartesian", "c", "K", "kartesisch", "Selective\ncart"])
def test_cartesian_positions_are_scaled(tmp_path, mode):
    crystal = read(tmp_path, poscar(symbols="Mg O", mode=mode, scale="4.2 8.4 2.1"))
    np.testing.assert_allclose(crystal.cell, np.diag([4.2, 8.4, 2.1]), atol=1e-12)
    np.testing.assert_allclose(crystal.positions[4], [2.1, 4.2, 1.05], atol=1e-12)


def test_three_scales_are_of_x_y_and_z_not_of_the_vectors(tmp_path):
    text = poscar(symbols="Mg O", scale="2 3 4").replace("1 0 0\n0 1 0\n0 0 1", "1 1 0\n0 1 1\n0 0 1")
    assert read(tmp_path, text).cell.tolist() == [[2, 3, 0], [0, 3, 4], [0, 0, 4]]


@pytest.mark.parametrize(
    ("behind", "numbers"),
    [
        (["Li"] * 4 + ["F"] * 4, [3] * 4 + [9] * 4),
        (["T T T Li"] * 4 + ["F F F F"] * 4, [3] * 4 + [9] * 4),
        (["Li T T T"] * 4 + ["F T T T"] * 4, [3] * 4 + [9] * 4),
        (["Li T F T"] * 4 + ["T F T F"] * 4, [3] * 4 + [9] * 4),
    ],
)
def test_fluorine_beside_flags(tmp_path, behind, numbers):
    assert read(tmp_path, poscar(behind=behind)).atomic_numbers.tolist() == numbers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # no elements: case 01
        (poscar("relaxed bottom layers", mode=SELECTIVE, behind=FIXED), "no element symbols"),
        (poscar(mode=SELECTIVE, behind=FREE), "no element symbols"),
        (poscar(behind=FIXED), "no element symbols"),
        (poscar(behind=["T"] * 8), "no element symbols"),
        (poscar(mode=SELECTIVE, behind=["F"] * 8), "no element symbols"),
        (poscar("Mg"), "no element symbols"),
        (poscar("Mg O H"), "no element symbols"),
        (poscar("Mg4 O2"), "no element symbols"),
        (poscar("CO2", counts="8"), "no element symbols"),
        (poscar(behind=["Mg"] * 4 + [""] * 4), "no element symbols"),
        # elements named twice, differently
        (poscar(symbols="Mg O", behind=["Mg"] * 4 + ["S"] * 4), "atom 5 is O by line 6, but S by the words after"),
        (poscar("Mg S", behind=BY_ATOM), "atom 5 is O by the words after the positions, but S by the comment line"),
        (poscar(behind=["Mg", *["O"] * 7]), "atoms 1 to 4 belong to one number of atoms, but"),
        # symbols
        (poscar(symbols="MG O"), "'MG' is not the symbol of an element"),
        (poscar(symbols="SI O"), "'SI' is not the symbol of an element"),
        (poscar(symbols="CO O"), "'CO' is not the symbol of an element"),
        (poscar(symbols="mg O"), "'mg' is not the symbol of an element"),
        (poscar(symbols="H.5 O"), "'H.5' is not the symbol of an element"),
        (poscar(symbols="Mg O H"), "line 6 names 3 elements, line 7 has 2 numbers of atoms"),
        (poscar(symbols="Mg\nO", counts="4\n2\n2"), "lines 6 to 7 name 2 elements, lines 8 to 10 have 3 numbers"),
        (poscar(symbols="Mg O", counts="8"), "line 6 names 2 elements, line 7 has 1 numbers"),
        (poscar(symbols="Mg O", counts="4 4.0"), "line 7: expected the numbers of atoms, got '4 4.0'"),
        (poscar(symbols="Mg O", counts="4 -4"), "expected the numbers of atoms"),
        # numbers of atoms and positions
        (poscar(symbols="Mg O", counts="4 5"), "expected 9 positions from line 9 on, the file is truncated"),
        (poscar(symbols="Mg O", counts="4 3"), "line 16: expected no more than 7 positions.*got '0 0 .5'"),
        (poscar(symbols="Mg O", counts="4 5", end="\n0 0 0\n"), "line 17: expected a position, got ''"),
        (poscar(symbols="Mg O", end="\n0 0 .1 T T T\n"), "line 18: looks like an atom after the 8 positions"),
        (poscar(symbols="Mg O", end="\n0 0 .1 O\n"), "line 18: looks like an atom after the 8 positions"),
        (poscar(symbols="Mg O", end=poscar("second", symbols="Mg O")), "line 22: a second structure begins"),
        # other lines
        (poscar(symbols="Mg O", scale="4.2 4.2"), "line 2: expected one or three numbers for the scale"),
        (poscar(symbols="Mg O", scale="4.2 4.2 -4.2"), "line 2: expected three positive scales"),
        (poscar(symbols="Mg O", scale="0"), "line 2: the scale is 0"),
        (poscar(symbols="Mg O", scale="4,2"), "line 2: expected one or three numbers for the scale, got '4,2'"),
        (poscar(symbols="Mg O").replace("0 1 0", "0 1 0 0"), "line 4: expected a lattice vector"),
        (poscar(symbols="Mg O").replace("0 1 0", "0 1 0x"), "line 4: expected a lattice vector"),
        (poscar(symbols="Mg O").replace("\nDirect", ""), "numbers of atoms"),
        (poscar(symbols="Mg O", mode="Fractional"), "line 8: expected Direct or Cartesian, got 'Fractional'"),
        (poscar(symbols="Mg O").split("\n", 1)[1], "not a POSCAR file"),
    ],
)
def test_refused(tmp_path, text, message):
    expect_refused(tmp_path, text, message)


def test_number_of_atoms_that_would_not_fit_into_memory(tmp_path):
    expect_refused(tmp_path, poscar(symbols="Mg O", counts=f"4 {10**15}"), "truncated")
    expect_refused(tmp_path, poscar(symbols="Mg O", counts=f"4 {'9' * 5000}"), "not a POSCAR file")

# SPDX-License-Identifier: MIT
"""Frequencies at q = 0: a spring, phonopy, instabilities, and arrays that are refused."""

from __future__ import annotations

import numpy as np
import pytest
from pair_potential import crystals_of_many_groups, pair_hessian

from dtnn_fast.crystals.elements import atomic_masses
from dtnn_fast.phonons import WAVENUMBER_OF_THZ, frequencies


def test_two_atoms_on_a_spring():
    spring, masses = 10.0, np.array([24.305, 15.999])
    matrix = np.kron(spring * np.array([[1.0, -1.0], [-1.0, 1.0]]), np.eye(3))
    reduced = masses.prod() / masses.sum() * 1.66053906660e-27
    expected = np.sqrt(spring * 16.02176634 / reduced) / (2 * np.pi) * 1e-12
    np.testing.assert_allclose(frequencies(matrix, masses), expected, rtol=1e-7)
    np.testing.assert_allclose(frequencies(-matrix, masses), -expected, rtol=1e-7)
    assert pytest.approx(1e12 / 299792458 / 100, rel=1e-9) == WAVENUMBER_OF_THZ


def test_equal_phonopys():
    phonopy = pytest.importorskip("phonopy")
    atoms_class = pytest.importorskip("phonopy.structure.atoms").PhonopyAtoms
    signs = []
    for crystal in crystals_of_many_groups()[::16]:
        masses = atomic_masses(crystal.atomic_numbers)
        matrix = pair_hessian(crystal)
        cell = atoms_class(
            numbers=crystal.atomic_numbers, positions=crystal.positions, cell=crystal.cell, masses=masses
        )
        phonon = phonopy.Phonopy(cell, np.eye(3), primitive_matrix=np.eye(3))
        size = crystal.num_atoms
        phonon.force_constants = matrix.reshape(size, 3, size, 3).transpose(0, 2, 1, 3).copy()
        phonon.run_qpoints([[0.0, 0.0, 0.0]])
        expected = np.sort(phonon.qpoints.frequencies[0])
        found = frequencies(matrix, masses)
        # phonopy has the three translations among them, at zero up to rounding.
        translations = np.sort(np.argsort(np.abs(expected))[:3])
        np.testing.assert_allclose(expected[translations], 0, atol=1e-3)
        np.testing.assert_allclose(found, np.delete(expected, translations), atol=2e-5 * np.abs(expected).max())
        assert (np.diff(found) >= 0).all()
        signs.append(np.sign(found))
    assert (np.concatenate(signs) < 0).any()
    assert (np.concatenate(signs) > 0).any()


def test_translations_are_left_out_even_where_they_cost_force():
    matrix = np.kron(np.array([[2.0, -1.0], [-1.0, 2.0]]), np.eye(3))
    pure = np.kron(1.5 * np.array([[1.0, -1.0], [-1.0, 1.0]]), np.eye(3))
    np.testing.assert_allclose(frequencies(matrix, np.ones(2)), frequencies(pure, np.ones(2)))
    assert frequencies(np.eye(3), np.ones(1)).shape == (0,)


@pytest.mark.parametrize(
    ("matrix", "masses", "message"),
    [
        (np.eye(5), np.ones(2), r"got \[2\] and \[5, 5\]"),
        (np.eye(6), np.ones((2, 1)), r"got \[2, 1\] and \[6, 6\]"),
        (np.eye(6), np.array([1.0, 0.0]), "positive `masses`"),
        (np.eye(6), np.array([1.0, np.nan]), "positive `masses`"),
        (np.full((6, 6), np.inf), np.ones(2), "finite `force_constants`"),
    ],
)
def test_bad_arrays_are_refused(matrix, masses, message):
    with pytest.raises(ValueError, match=message):
        frequencies(matrix, masses)

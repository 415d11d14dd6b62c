# SPDX-License-Identifier: MIT
"""Shares of the modes at q = 0 in the ionic tensor: a spring, the sum over modes, Lyddane-Sachs-Teller, bad arrays."""

from __future__ import annotations

import numpy as np
import pytest
from pair_potential import crystals_of_many_groups, pair_hessian

from dtnn_fast.crystals.elements import atomic_masses
from dtnn_fast.phonons import E2_OVER_EPS0, PolarModes, frequencies, ionic_tensor, polar_modes


def random_charges(num_atoms: int, seed: int = 0) -> np.ndarray:
    charges = np.random.default_rng(seed).normal(size=(num_atoms, 3, 3))
    return charges - charges.mean(0)


def test_two_atoms_on_springs():
    springs, charge, masses, volume = np.diag([4.0, 4.0, 9.0]), 2.0, np.array([24.305, 15.999]), 20.0
    matrix = np.kron(np.array([[1.0, -1.0], [-1.0, 1.0]]), springs)
    charges = charge * np.stack([np.eye(3), -np.eye(3)])
    modes = polar_modes(matrix, charges, masses, volume)
    np.testing.assert_allclose(modes.frequencies, frequencies(matrix, masses))
    shares = E2_OVER_EPS0 / volume * charge**2 / np.array([4.0, 4.0, 9.0])
    np.testing.assert_allclose(modes.ionic.sum(0), np.diag(shares), atol=1e-12)
    np.testing.assert_allclose(modes.ionic[2], np.diag([0, 0, shares[2]]), atol=1e-12)


def test_shares_add_up_to_the_ionic_tensor_for_any_masses():
    for index, crystal in enumerate(crystals_of_many_groups()[::16]):
        matrix, charges = pair_hessian(crystal), random_charges(crystal.num_atoms, index)
        volume = abs(np.linalg.det(crystal.cell))
        expected = ionic_tensor(matrix, charges, volume)
        for masses in (atomic_masses(crystal.atomic_numbers), np.ones(crystal.num_atoms)):
            modes = polar_modes(matrix, charges, masses, volume)
            assert modes.ionic.shape == (3 * crystal.num_atoms - 3, 3, 3)
            np.testing.assert_allclose(modes.ionic.sum(0), expected, atol=1e-8 * np.abs(modes.ionic).sum())
            np.testing.assert_allclose(modes.frequencies, frequencies(matrix, masses), rtol=1e-9)
            traces = np.trace(modes.ionic, axis1=1, axis2=2)
            assert (traces[modes.frequencies > 0] >= 0).all()
            assert (traces[modes.frequencies < 0] <= 0).all()


def test_longitudinal_modes_of_phonopy_are_where_the_dielectric_function_vanishes():
    phonopy = pytest.importorskip("phonopy")
    atoms_class = pytest.importorskip("phonopy.structure.atoms").PhonopyAtoms
    size, masses, electronic = 4.21, np.array([24.305, 15.999]), 3.2 * np.eye(3)
    cell = 0.5 * size * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    matrix = np.kron(8.0 * np.array([[1.0, -1.0], [-1.0, 1.0]]), np.eye(3))
    charges = np.stack([1.97 * np.eye(3), -1.97 * np.eye(3)])
    atoms = atoms_class(symbols=["Mg", "O"], scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=cell, masses=masses)
    phonon = phonopy.Phonopy(atoms, np.eye(3, dtype=int), primitive_matrix=np.eye(3))
    phonon.force_constants = matrix.reshape(2, 3, 2, 3).transpose(0, 2, 1, 3).copy()
    phonon.nac_params = {"born": charges, "dielectric": electronic, "factor": 14.399652}
    phonon.run_qpoints([[0.0, 0.0, 0.0]], nac_q_direction=[1, 0, 0])
    longitudinal = phonon.qpoints.frequencies[0].max()
    modes = polar_modes(matrix, charges, masses, abs(np.linalg.det(cell)))
    shares = modes.ionic[:, 0, 0] / (1 - (longitudinal / modes.frequencies) ** 2)
    assert electronic[0, 0] + shares.sum() == pytest.approx(0, abs=1e-4)


def test_one_atom_has_no_modes():
    modes = polar_modes(np.zeros((3, 3)), np.zeros((1, 3, 3)), np.ones(1), 10.0)
    assert isinstance(modes, PolarModes)
    assert (modes.frequencies.shape, modes.ionic.shape) == ((0,), (0, 3, 3))


@pytest.mark.parametrize(
    ("matrix", "charges", "masses", "volume", "message"),
    [
        (np.eye(5), np.zeros((2, 3, 3)), np.ones(2), 1.0, r"polar_modes: expected `masses` .* got \[2\] and \[5, 5\]"),
        (np.eye(6), np.zeros((3, 3, 3)), np.ones(2), 1.0, r"`born_charges` of shape \[2, 3, 3\], got \[3, 3, 3\]"),
        (np.eye(6), np.zeros((2, 3, 3)), np.array([1.0, 0.0]), 1.0, "positive `masses`"),
        (np.full((6, 6), np.nan), np.zeros((2, 3, 3)), np.ones(2), 1.0, "finite `force_constants`"),
        (np.eye(6), np.zeros((2, 3, 3)), np.ones(2), 0.0, "positive `volume`, got 0.0"),
    ],
)
def test_bad_arrays_are_refused(matrix, charges, masses, volume, message):
    with pytest.raises(ValueError, match=message):
        polar_modes(matrix, charges, masses, volume)

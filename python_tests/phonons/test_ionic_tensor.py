# SPDX-License-Identifier: MIT
"""The ionic tensor from charges and force constants: springs by hand, the pseudo-inverse, rotations and supercells."""

from __future__ import annotations

import numpy as np
import pytest

from dtnn_fast.phonons import gamma_modes, ionic_tensor
from dtnn_fast.phonons.ionic_tensor import E2_OVER_EPS0, compliance, without_translations


@pytest.fixture
def random():
    return np.random.default_rng(0)


def stable(random, num_atoms):
    """Force constants that translations do not feel, and charges that sum to zero."""
    basis = without_translations(num_atoms)
    half = random.normal(size=(basis.shape[1], basis.shape[1]))
    charges = random.normal(size=(num_atoms, 3, 3))
    return basis @ (half @ half.T + np.eye(len(half))) @ basis.T, charges - charges.mean(0)


def test_constants():
    # Elementary charge and vacuum permittivity (CODATA 2018).
    charge, permittivity = 1.602176634e-19, 8.8541878128e-12
    assert pytest.approx(charge / permittivity * 1e10, rel=1e-7) == E2_OVER_EPS0


def test_two_ions_on_a_spring():
    spring, charge, volume = 4.0, 1.5, 20.0
    constants = np.kron(spring * np.array([[1.0, -1.0], [-1.0, 1.0]]), np.eye(3))
    charges = np.array([charge * np.eye(3), -charge * np.eye(3)])
    np.testing.assert_allclose(
        ionic_tensor(constants, charges, volume), E2_OVER_EPS0 / volume * charge**2 / spring * np.eye(3)
    )


def test_equals_the_pseudo_inverse(random):
    constants, charges = stable(random, 5)
    response = charges.transpose(1, 0, 2).reshape(3, -1)
    expected = E2_OVER_EPS0 / 50.0 * response @ np.linalg.pinv(constants, rcond=1e-9) @ response.T
    np.testing.assert_allclose(ionic_tensor(constants, charges, 50.0), expected, rtol=1e-9)


def test_turns_with_the_crystal(random):
    constants, charges = stable(random, 3)
    rotation, _ = np.linalg.qr(random.normal(size=(3, 3)))
    turn = np.kron(np.eye(3), rotation)
    turned = ionic_tensor(turn @ constants @ turn.T, rotation @ charges @ rotation.T, 30.0)
    np.testing.assert_allclose(turned, rotation @ ionic_tensor(constants, charges, 30.0) @ rotation.T, rtol=1e-9)


def test_a_common_charge_and_the_frame_of_translations_do_not_matter(random):
    constants, charges = stable(random, 4)
    shifted = ionic_tensor(constants, charges + random.normal(size=(3, 3)), 30.0)
    np.testing.assert_allclose(shifted, ionic_tensor(constants, charges, 30.0), rtol=1e-9)


def test_one_atom_has_no_ionic_part():
    assert gamma_modes(np.zeros((3, 3)), np.zeros((1, 3, 3))).stiffness.shape == (0,)
    np.testing.assert_array_equal(ionic_tensor(np.eye(3), np.zeros((1, 3, 3)), 10.0), np.zeros((3, 3)))


def test_soft_modes_are_bounded_and_stiff_ones_unchanged():
    stiffness = np.array([-50.0, -1e-9, 0.0, 1e-3, 0.1, 1.0, 100.0])
    bounded = compliance(stiffness, 0.1)
    assert (np.diff(bounded) <= 0).all()
    np.testing.assert_allclose(bounded[:3], 10.0, rtol=1e-6)
    np.testing.assert_allclose(bounded[-1], 0.01, rtol=1e-5)
    np.testing.assert_array_equal(compliance(stiffness[3:]), 1 / stiffness[3:])


def test_condensed_modes_have_the_stiffness_of_the_minimum():
    """The second derivative of k u^2 / 2 + b u^4 in its minimum, by differences."""
    for k in (-2.0, -0.3, 0.7):
        u = np.linspace(0, 3, 300_001)
        energy = 0.5 * k * u**2 + 0.4 * u**4
        at = int(energy.argmin())
        slopes = np.gradient(np.gradient(energy, u), u)
        expected = compliance(np.array([slopes[max(at, 10)]]), 0.05)
        np.testing.assert_allclose(compliance(np.array([k]), 0.05, condensed=True), expected, rtol=1e-3)
    stiffness = np.linspace(-3, 3, 61)
    flexible = compliance(stiffness, 0.3, condensed=True)
    np.testing.assert_array_equal(flexible[stiffness >= 0], compliance(stiffness, 0.3)[stiffness >= 0])
    assert flexible.argmax() == 30
    assert flexible[0] < 0.17 < compliance(stiffness, 0.3)[0]
    tensor = ionic_tensor(np.diag([-1.0, 4, 9, -1, 4, 9]), np.array([np.eye(3), -np.eye(3)]), 50.0, 0.1, condensed=True)
    turned = ionic_tensor(np.diag([2.0, 4, 9, 2, 4, 9]), np.array([np.eye(3), -np.eye(3)]), 50.0, 0.1)
    np.testing.assert_allclose(tensor, turned)


def test_a_basis_without_translations(random):
    for num_atoms in (1, 2, 7):
        basis = without_translations(num_atoms)
        np.testing.assert_allclose(basis.T @ basis, np.eye(3 * num_atoms - 3), atol=1e-12)
        np.testing.assert_allclose(np.tile(np.eye(3), num_atoms) @ basis, 0, atol=1e-12)


@pytest.mark.parametrize(
    ("constants", "charges", "message"),
    [
        (np.eye(5), np.zeros((2, 3, 3)), r"\[3 N, 3 N\], got \[2, 3, 3\] and \[5, 5\]"),
        (np.eye(6), np.zeros((2, 3)), "got"),
    ],
)
def test_shapes_are_checked(constants, charges, message):
    with pytest.raises(ValueError, match=message):
        gamma_modes(constants, charges)


def test_volumes_are_checked():
    with pytest.raises(ValueError, match="positive `volume`, got 0"):
        ionic_tensor(np.eye(6), np.zeros((2, 3, 3)), 0.0)

# SPDX-License-Identifier: MIT
"""Symmetry of tensors, and their Cartesian frames."""

import numpy as np
import pytest
from crystal_examples import ONE_OF_EACH_SYSTEM, SYSTEM_IDS, to_pymatgen
from pymatgen.core.tensors import Tensor

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.datasets.cleaning import LARGEST_VIOLATION, SelectionRules, select_crystals
from dtnn_fast.datasets.sources.source import DropReason, TensorFrame
from dtnn_fast.symmetry import find_symmetry, from_ieee_frame, symmetrised, symmetry_violation

# Lower bound of the number of rotations for each crystal system.
MIN_NUM_ROTATIONS = {
    "triclinic": 1,
    "monoclinic": 2,
    "orthorhombic": 4,
    "tetragonal": 4,
    "trigonal": 3,
    "hexagonal": 6,
    "cubic": 12,
}


def rotated(crystal, rotation):
    return Crystal(crystal.id, crystal.atomic_numbers, crystal.positions @ rotation.T, crystal.cell @ rotation.T)


@pytest.mark.parametrize("crystal", ONE_OF_EACH_SYSTEM, ids=SYSTEM_IDS)
def test_rotations_are_a_group_that_keeps_the_crystal(crystal):
    symmetry = find_symmetry(crystal)
    assert symmetry.space_group == crystal.info["space_group"]
    rotations = symmetry.rotations
    assert len(rotations) >= MIN_NUM_ROTATIONS[crystal.info["crystal_system"]]
    np.testing.assert_allclose(
        rotations @ rotations.transpose(0, 2, 1), np.eye(3)[None].repeat(len(rotations), 0), atol=0.02
    )
    products = (rotations[:, None] @ rotations[None]).reshape(-1, 3, 3)
    nearest = np.abs(products[:, None] - rotations[None]).max(axis=(2, 3)).min(axis=1)
    assert nearest.max() < 0.02


def test_known_violations():
    cubic = find_symmetry(ONE_OF_EACH_SYSTEM[-1]).rotations
    # The published cell is given to six digits, and its rotations are as exact as that.
    assert symmetry_violation(np.eye(3), cubic) < 1e-6
    assert symmetry_violation(np.diag([3.0, 3.0, 6.0]), cubic) == pytest.approx((6 - 4) / 6, abs=1e-6)
    assert symmetry_violation(np.zeros((3, 3)), cubic) == 0
    assert symmetry_violation(np.diag([1.0, 2.0, 3.0]), np.eye(3)[None]) == 0


def test_published_tensors_have_the_symmetry_of_their_crystals():
    """The limit of the check: all bundled crystals are at most at half of it. Every fifth crystal is tested here."""
    crystals = load_labelled()[::5]
    violations = [symmetry_violation(c.targets["total"], find_symmetry(c).rotations) for c in crystals]
    assert np.quantile(violations, 0.9) < 0.01
    assert max(violations) <= 0.5 * LARGEST_VIOLATION


@pytest.mark.parametrize("crystal", ONE_OF_EACH_SYSTEM, ids=SYSTEM_IDS)
def test_from_ieee_frame(crystal):
    """The IEEE frame is fixed to the crystal: a rotated crystal gets the rotated tensor."""
    fitted = Tensor(crystal.targets["total"]).fit_to_structure(to_pymatgen(crystal))
    ieee = np.array(Tensor(crystal.targets["total"]).convert_to_ieee(to_pymatgen(crystal)))
    np.testing.assert_allclose(from_ieee_frame(crystal, {"total": ieee})["total"], fitted, atol=1e-5)
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    rotation *= np.linalg.det(rotation)
    turned = from_ieee_frame(rotated(crystal, rotation), {"total": ieee})["total"]
    np.testing.assert_allclose(turned, rotation @ fitted @ rotation.T, atol=1e-4)


def test_a_tensor_in_another_frame_is_dropped():
    tetragonal = next(c for c in load_labelled() if c.info["crystal_system"] == "tetragonal" and _anisotropic(c))
    rotation = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    wrong = rotated(tetragonal, rotation)
    wrong.targets.update(tetragonal.targets)
    kept, dropped = select_crystals([wrong], SelectionRules())
    assert kept == []
    assert dropped[0].drop_reason is DropReason.WRONG_SYMMETRY
    assert "its frame may not be that of the structure" in dropped[0].rejected.reason
    assert len(select_crystals([wrong], SelectionRules(check_symmetry=False)).kept) == 1


def test_crystal_without_ieee_frame_is_dropped(monkeypatch):
    crystal = load_labelled()[0]

    def fail(*_):
        raise TypeError("'NoneType' object is not subscriptable")

    monkeypatch.setattr("dtnn_fast.datasets.cleaning.from_ieee_frame", fail)
    assert (
        select_crystals([crystal], SelectionRules(frame=TensorFrame.ieee)).dropped[0].drop_reason
        is DropReason.WRONG_SYMMETRY
    )


def _anisotropic(crystal):
    values = np.linalg.eigvalsh(crystal.targets["total"])
    return values[2] > 1.5 * values[0]


@pytest.mark.parametrize("crystal", ONE_OF_EACH_SYSTEM, ids=SYSTEM_IDS)
def test_symmetrised_tensor_has_exact_zeros_and_keeps_allowed_elements(crystal):
    symmetry = find_symmetry(crystal)
    rough = np.random.default_rng(0).normal(size=(3, 3))
    once = symmetrised(rough + rough.T, symmetry.rotations)
    assert symmetry_violation(once, symmetry.rotations) < 1e-6
    np.testing.assert_array_equal(once, once.T)
    np.testing.assert_allclose(symmetrised(once, symmetry.rotations), once, atol=1e-6)
    if crystal.info.get("crystal_system") == "cubic":
        assert (once[~np.eye(3, dtype=bool)] == 0).all()


def test_inexact_rotations_do_not_scale_the_tensor():
    tensor = np.diag([2.0, 3.0, 5.0])
    stretched = np.eye(3)[None] * np.array([1.01, 0.99])[:, None, None]
    np.testing.assert_allclose(symmetrised(tensor, stretched), tensor, atol=1e-12)

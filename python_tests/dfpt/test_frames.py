# SPDX-License-Identifier: MIT
"""The frame of a calculation, whose cell is rotated, another one, a supercell, and relaxed."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.dfpt.frames import find_rotation, to_frame_of_crystal
from dtnn_fast.symmetry import find_symmetry, symmetry_violation

# Four of the published tensors lack the symmetry of their crystal, and so depend on the axes that are chosen.
LABELLED = [
    crystal
    for crystal in load_labelled()
    if crystal.num_atoms <= 8 and symmetry_violation(crystal.targets["total"], find_symmetry(crystal).rotations) < 0.02
]


def moved(crystal, rng, unimodular, copies, strain=0.005, rattle=0.01, improper=False):
    """The crystal in another cell, with other axes and another order, relaxed a little; and the rotation."""
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    rotation *= np.linalg.det(rotation) * (-1 if improper else 1)
    deformation = strain * rng.normal(size=(3, 3))
    deformation = np.eye(3) + (deformation + deformation.T) / 2
    cell = unimodular @ crystal.cell
    positions = np.concatenate([crystal.positions + k * cell[0] for k in range(copies)])
    cell = np.diag([copies, 1, 1]) @ cell
    numbers = np.tile(crystal.atomic_numbers, copies)
    order = rng.permutation(len(numbers))
    positions = positions[order] + rattle * rng.normal(size=positions.shape)
    computed = Crystal.make("run", numbers[order], positions @ deformation @ rotation, cell @ deformation @ rotation)
    return computed, rotation


@settings(max_examples=60, deadline=None)
@given(
    number=st.integers(0, len(LABELLED) - 1),
    seed=st.integers(0, 2**32 - 1),
    other_cell=st.booleans(),
    copies=st.sampled_from([1, 2]),
    improper=st.booleans(),
)
def test_tensors_come_back_to_the_frame_of_the_crystal(number, seed, other_cell, copies, improper):
    crystal = LABELLED[number]
    unimodular = np.array([[1, 1, 0], [0, 1, 0], [0, 1, 1]]) if other_cell else np.eye(3)
    computed, rotation = moved(crystal, np.random.default_rng(seed), unimodular, copies, improper=improper)
    tensor = crystal.targets["total"]
    there = rotation.T @ tensor @ rotation
    tolerance = 0.05 * np.abs(tensor).max()
    found = find_rotation(crystal, computed)
    np.testing.assert_allclose(found @ found.T, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(to_frame_of_crystal(there, found), tensor, atol=tolerance)
    back = find_rotation(computed, crystal)
    np.testing.assert_allclose(to_frame_of_crystal(tensor, back), there, atol=tolerance)


def test_an_unstrained_rotation_is_found_exactly():
    crystal = next(c for c in LABELLED if c.info["crystal_system"] == "triclinic")
    computed, rotation = moved(crystal, np.random.default_rng(1), np.eye(3), 1, strain=0, rattle=0)
    np.testing.assert_allclose(find_rotation(crystal, computed), rotation, atol=1e-9)


def test_other_crystals_have_no_common_frame():
    crystal = LABELLED[0]
    other = replace(crystal, atomic_numbers=crystal.atomic_numbers + 1)
    assert find_rotation(crystal, other) is None
    zincblende = Crystal.from_fractional("a", [30, 16], [[0, 0, 0], [0.25] * 3], 2.7 * (np.ones((3, 3)) - np.eye(3)))
    rock_salt = replace(zincblende, positions=np.array([[0, 0, 0], 2.7 * np.ones(3)]))
    assert find_rotation(zincblende, rock_salt) is None


@pytest.mark.parametrize("strain", [0.05, 0.1])
def test_strain_is_no_rotation(strain):
    crystal = LABELLED[3]
    stretched = np.diag([1 + strain, 1, 1 - strain / 2])
    computed = replace(crystal, positions=crystal.positions @ stretched, cell=crystal.cell @ stretched)
    np.testing.assert_allclose(find_rotation(crystal, computed), np.eye(3), atol=1e-9)

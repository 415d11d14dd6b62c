# SPDX-License-Identifier: MIT
"""Primitive and conventional cells: the same crystal, not rotated."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtnn_fast.crystals import Crystal
from dtnn_fast.crystals.structure_index import StructureIndex
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.symmetry import describe_symmetry, in_standard_cell
from dtnn_fast.symmetry.space_group import find_symmetry
from dtnn_fast.symmetry.tensor_symmetry import symmetry_violation

CRYSTALS = [crystal for crystal in load_labelled()[::8] if crystal.num_atoms <= 20]


def supercell(crystal, seed):
    """A sheared supercell with shuffled atoms."""
    rng = np.random.default_rng(seed)
    matrix = np.array([[1, 0, 0], [rng.integers(-1, 2), 1, 0], [0, 0, 2]])
    order = rng.permutation(2 * crystal.num_atoms)
    positions = np.concatenate([crystal.positions, crystal.positions + crystal.cell[2]])
    return Crystal.make("super", np.tile(crystal.atomic_numbers, 2)[order], positions[order], matrix @ crystal.cell)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(CRYSTALS), st.booleans(), st.integers(0, 5))
def test_the_same_crystal_whatever_cell_it_comes_in(crystal, primitive, seed):
    made = in_standard_cell(supercell(crystal, seed), primitive)
    assert StructureIndex([crystal]).find(made) is crystal
    expected = in_standard_cell(crystal, primitive)
    assert made.num_atoms == expected.num_atoms
    assert made.num_atoms <= 2 * crystal.num_atoms or not primitive
    np.testing.assert_allclose(abs(np.linalg.det(made.cell)), abs(np.linalg.det(expected.cell)), rtol=1e-6)
    assert describe_symmetry(made) == describe_symmetry(crystal)


@pytest.mark.parametrize("primitive", [True, False])
def test_the_frame_stays(primitive):
    """The point group in Cartesian coordinates is that of the cell that was given, so tensors need no rotation."""
    for crystal in CRYSTALS:
        made = in_standard_cell(crystal, primitive)
        before, after = find_symmetry(crystal, 1e-3), find_symmetry(made, 1e-3)
        tensor = np.diag([1.0, 2.0, 3.0]) + 0.3
        average = np.mean([r @ tensor @ r.T for r in before.rotations], axis=0)
        assert symmetry_violation(average, after.rotations) < 1e-3
        assert len(before.rotations) == len(after.rotations)
        assert made.targets.keys() == crystal.targets.keys()


def test_sizes_of_rocksalt():
    fcc = 2.1 * (1 - np.eye(3))
    crystal = Crystal.from_fractional("MgO", [12, 8], [[0, 0, 0], [0.5, 0.5, 0.5]], fcc)
    assert in_standard_cell(crystal).num_atoms == 2
    conventional = in_standard_cell(crystal, primitive=False)
    assert conventional.num_atoms == 8
    np.testing.assert_allclose(np.linalg.norm(conventional.cell, axis=1), 4.2)


def test_labels_of_single_atoms_are_dropped():
    crystal = Crystal.from_fractional(
        "CsCl", [55, 17], [[0, 0, 0], [0.5, 0.5, 0.5]], 4.1 * np.eye(3), born_charges=np.zeros((2, 3, 3))
    )
    assert in_standard_cell(crystal).born_charges is None

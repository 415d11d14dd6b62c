# SPDX-License-Identifier: MIT
"""One search with a large tolerance gives the exact operations too, wherever the crystal is as symmetric as that."""

from dataclasses import replace

import numpy as np
import pytest
from crystal_examples import thermal_mgo

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.screening import preparation
from dtnn_fast.symmetry import SNAP_TOLERANCE, describe_symmetry, find_operations, search_symmetry, space_group

SMALL = [crystal for crystal in load_labelled() if crystal.num_atoms < 40][::4]


@pytest.fixture
def searches(monkeypatch):
    tolerances = []
    search = space_group.search_dataset

    def counted(crystal, symprec):
        tolerances.append(symprec)
        return search(crystal, symprec)

    monkeypatch.setattr(space_group, "search_dataset", counted)
    return tolerances


def as_set(operations):
    if operations is None:
        return None
    return {(*turn.ravel().tolist(), image) for turn, image in zip(*operations, strict=True)}


def displaced(crystal, size, seed=0):
    moves = np.random.default_rng(seed).normal(size=(crystal.num_atoms, 3))
    moves *= size / np.linalg.norm(moves, axis=1, keepdims=True)
    return replace(crystal, positions=crystal.positions + moves)


def test_operations_and_description_are_those_of_two_searches(searches):
    without = [replace(crystal, operations=None, info={}) for crystal in SMALL]
    found = [preparation.described(crystal, True) for crystal in without]
    assert len(SMALL) > 150
    assert len(searches) < 1.1 * len(SMALL)
    for crystal, other in zip(without, found, strict=True):
        assert as_set(other.operations) == as_set(find_operations(crystal))
        assert other.info == describe_symmetry(crystal)._asdict()


@pytest.mark.parametrize("size", [1e-4, 5e-4, 2e-3, 1e-2])
def test_displaced_atoms(searches, size):
    for crystal in SMALL[::8]:
        other = displaced(replace(crystal, operations=None, info={}), size)
        del searches[:]
        found = preparation.described(other, True)
        assert as_set(found.operations) == as_set(find_operations(other))
        if size > 4 * SNAP_TOLERANCE and len(crystal.positions) > 1 and found.info["space_group"] > 1:
            assert searches[0] > searches[1] == SNAP_TOLERANCE


def test_a_strained_cell_is_noticed():
    fcc = 2.1 * (1 - np.eye(3))
    for strain, holds in ((0, True), (1e-4, True), (3e-3, False)):
        cell = fcc @ np.diag([1, 1, 1 + strain])
        mgo = Crystal.from_fractional("MgO", [12, 8], [[0, 0, 0], [0.5, 0.5, 0.5]], cell)
        found = search_symmetry(mgo)
        assert found.space_group == 225
        assert found.holds_within(SNAP_TOLERANCE) == holds


def test_the_distance_is_that_of_the_atoms_from_their_mean():
    # One atom of 64 moves by d. The symmetric crystal is the mean over operations that take it to all others: it lies
    # d away from its place there, less what the mean moves; its images are up to twice as far from other atoms.
    supercell = thermal_mgo((2, 2, 2), displacement=0)
    moved = supercell.positions.copy()
    moved[0, 0] += 0.02
    found = search_symmetry(replace(supercell, positions=moved))
    assert found.holds_within(0.0401)
    assert not found.holds_within(0.0199)


def test_crystals_that_have_operations_keep_them(searches):
    crystal = replace(SMALL[0], operations=find_operations(SMALL[0]), info={})
    del searches[:]
    assert preparation.described(crystal, True).operations is crystal.operations
    assert len(searches) == 1


def test_no_symmetry_known():
    many = thermal_mgo((5, 5, 5), displacement=0)
    assert many.num_atoms > 800
    assert search_symmetry(many) is None
    found = preparation.described(many, True)
    assert (found.operations, found.info) == (None, many.info)

# SPDX-License-Identifier: MIT
"""Layers, chains and molecules are told from crystals, whatever the cell; the usual length of bonds is 1."""

import numpy as np
import pytest
from bonding_examples import (
    carbon_frame,
    fcc_metal,
    graphite,
    layered_iodide,
    lone_atom,
    magnesia_slab,
    methane,
    molybdenite,
    polyethylene,
    rock_salt,
    scaled,
    zeolite_a,
)

from dtnn_fast.crystals.bonding import describe_bonding, widest_gap
from dtnn_fast.crystals.checks import check_crystal
from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.datasets.bundled import load_labelled

DIMENSIONS = [
    (rock_salt(), 3),
    (fcc_metal(), 3),
    (molybdenite(), 3),
    (graphite(), 3),
    (layered_iodide(), 3),
    (zeolite_a(), 3),
    (carbon_frame(), 3),
    (magnesia_slab(), 2),
    (molybdenite(gap=20.0), 2),
    (polyethylene(), 1),
    (methane(), 0),
    (lone_atom(), 0),
]
NAMES = [crystal.id for crystal, _ in DIMENSIONS]


def in_another_cell(crystal, matrix, seed=0):
    """The same crystal with other lattice vectors, its atoms moved to other cells and sorted at random."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(crystal.num_atoms)
    moved = crystal.positions + rng.integers(-3, 4, (crystal.num_atoms, 3)) @ crystal.cell
    return Crystal.make(crystal.id, crystal.atomic_numbers[order], moved[order], np.array(matrix) @ crystal.cell)


def doubled(crystal):
    positions = np.vstack([crystal.positions, crystal.positions + crystal.cell[2]])
    return Crystal.make(crystal.id, np.tile(crystal.atomic_numbers, 2), positions, np.diag([1, 1, 2]) @ crystal.cell)


@pytest.mark.parametrize(("crystal", "dimension"), DIMENSIONS, ids=NAMES)
def test_dimension(crystal, dimension):
    check_crystal(crystal)
    for same in (
        crystal,
        in_another_cell(crystal, [[1, 2, -1], [0, 1, 3], [0, 0, 1]]),
        in_another_cell(crystal, [[0, 0, 1], [1, 0, 0], [0, -1, 0]]),
        doubled(crystal),
    ):
        assert describe_bonding([same], 5.0)[0].dimension == dimension


def test_all_at_once_are_what_they_are_alone():
    crystals = [crystal for crystal, _ in DIMENSIONS] + load_labelled()[:100]
    for crystal, bonding in zip(crystals, describe_bonding(crystals, 5.0), strict=True):
        assert bonding == describe_bonding([crystal], 5.0)[0]
    assert describe_bonding([], 5.0) == []


def test_two_interwoven_parts_count_apart():
    """An atom in the cage of a framework is a part without dimension."""
    zeolite = zeolite_a()
    guest = Crystal.make(
        "guest", [*zeolite.atomic_numbers, 54], np.vstack([zeolite.positions, zeolite.cell.sum(0) / 2]), zeolite.cell
    )
    assert describe_bonding([guest], 3.0)[0] == (1, 0, describe_bonding([guest], 3.0)[0].bond_fraction)
    assert describe_bonding([zeolite], 3.0)[0].dimension == 3


def test_lone_atoms():
    assert describe_bonding([lone_atom()], 5.0)[0].num_lone_atoms == 1
    assert describe_bonding([rock_salt(11, 17, 5.64)], 2.5)[0].num_lone_atoms == 8
    assert describe_bonding([rock_salt(11, 17, 5.64)], 3.0)[0].num_lone_atoms == 0


def test_gaps():
    assert widest_gap(magnesia_slab(20.0)) == pytest.approx(20.0)
    assert widest_gap(in_another_cell(magnesia_slab(20.0), [[1, 0, 0], [2, 1, 0], [3, 1, 1]])) == pytest.approx(20.0)
    assert widest_gap(methane(10.0)) == pytest.approx(10.0 - 2 * 0.629118)
    assert widest_gap(rock_salt()) == pytest.approx(2.106)


def test_bond_fraction():
    salt = rock_salt(11, 17, 5.64)
    for factor in (0.7, 1.0, 1.8897, 2.5):
        fraction = describe_bonding([scaled(salt, factor)], 5.0)[0].bond_fraction
        assert fraction == pytest.approx(factor * 2.82 / (1.66 + 1.02))
    assert np.isinf(describe_bonding([lone_atom()], 5.0)[0].bond_fraction)
    fractions = [bonding.bond_fraction for bonding in describe_bonding(load_labelled(), 5.0)]
    assert 0.7 < min(fractions) < max(fractions) < 1.3

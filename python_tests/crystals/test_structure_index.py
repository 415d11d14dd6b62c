# SPDX-License-Identifier: MIT
"""A crystal is found by its structure, in any cell and frame and with any name; other crystals are not."""

from dataclasses import replace

import numpy as np
import pytest

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.crystals.structure_index import StructureIndex, distribution_distance, pair_distribution
from dtnn_fast.datasets.bundled import labelled_index, load_labelled, load_structures

FCC = [[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]]


def rock_salt(a: float, numbers=(12, 8), id="MgO") -> Crystal:
    return Crystal.from_fractional(id, numbers, [[0, 0, 0], [0.5, 0.5, 0.5]], a * np.array(FCC))


def supercell(crystal: Crystal, repeats: tuple[int, int, int]) -> Crystal:
    """Repeat a cell, in another order of the atoms."""
    steps = np.stack(np.meshgrid(*map(range, repeats), indexing="ij"), axis=-1).reshape(-1, 3) @ crystal.cell
    positions = (crystal.positions[:, None] + steps).reshape(-1, 3)
    numbers = np.repeat(crystal.atomic_numbers, len(steps))
    order = np.random.default_rng(0).permutation(len(numbers))
    cell = np.array(repeats)[:, None] * crystal.cell
    return replace(crystal, id="supercell", positions=positions[order], atomic_numbers=numbers[order], cell=cell)


def rotated(crystal: Crystal, seed: int) -> Crystal:
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return replace(crystal, positions=crystal.positions @ rotation, cell=crystal.cell @ rotation)


def skewed(crystal: Crystal) -> Crystal:
    """The same lattice by other vectors."""
    return replace(crystal, cell=np.array([[1, 1, 0], [0, 1, 0], [0, 2, 1]]) @ crystal.cell)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: replace(c, id="another name"),
        lambda c: supercell(c, (1, 2, 3)),
        lambda c: rotated(c, 1),
        lambda c: skewed(rotated(supercell(c, (2, 1, 1)), 2)),
        lambda c: replace(c, positions=c.positions + 0.7),
        lambda c: replace(c, positions=0.99 * c.positions, cell=0.99 * c.cell),
    ],
    ids=["name", "supercell", "rotated", "skewed", "shifted", "compressed"],
)
def test_the_same_structure_is_found(change):
    known = load_labelled()[::40]
    index = StructureIndex(known)
    assert len(index) == len(known)
    for crystal in known:
        assert index.find(change(crystal)) is crystal


def test_crystals_relaxed_again_are_found():
    """Crystals of both bundled sets have slightly other cells and positions, and the same id."""
    ids = {crystal.id for crystal in load_labelled()}
    again = [crystal for crystal in load_structures() if crystal.id in ids]
    assert len(again) == 364
    found = [labelled_index().find(crystal) for crystal in again]
    assert [crystal and crystal.id for crystal in found] == [crystal.id for crystal in again]


def test_other_compositions_volumes_and_structures_are_not_found():
    index = StructureIndex([rock_salt(4.25)])
    assert index.find(rock_salt(4.21)) is not None
    assert index.find(rock_salt(4.0)) is None
    assert index.find(rock_salt(4.25, (20, 8))) is None
    cesium_chloride = Crystal.from_fractional("CsCl", (12, 8), [[0, 0, 0], [0.5] * 3], 2.68 * np.eye(3))
    assert index.find(cesium_chloride) is None
    zinc_blende = Crystal.from_fractional("ZnS", (12, 8), [[0, 0, 0], [0.25] * 3], 4.25 * np.array(FCC))
    assert index.find(zinc_blende) is None


@pytest.mark.parametrize(
    ("formula", "left_out"),
    [
        ("TiO2", ()),
        ("SiO2", (152,)),  # the mirror image of quartz
        ("KNbO3", (38,)),  # atoms are moved by 0.02 Angstrom from those of the tetragonal phase
        ("ZnS", (156, 160)),  # polytypes between wurtzite and zincblende
    ],
)
def test_polymorphs_are_told_apart(formula, left_out):
    crystals = [c for c in load_labelled() + load_structures() if c.formula == formula]
    groups = {}
    for crystal in crystals:
        groups.setdefault(crystal.info["space_group"], crystal)
    polymorphs = [crystal for number, crystal in groups.items() if number not in left_out]
    assert len(polymorphs) >= 2
    for crystal in polymorphs:
        others = StructureIndex([other for other in polymorphs if other is not crystal])
        assert others.find(crystal) is None


def test_lone_atoms_do_not_fail():
    far = Crystal.make("far", [2, 10], [[0, 0, 0], [9, 9, 9]], 18 * np.eye(3))
    assert StructureIndex([far]).find(far) is far
    assert distribution_distance(pair_distribution(far), np.zeros_like(pair_distribution(far))) == 1.0


def test_all_crystals_of_the_structure_are_found_the_nearest_first():
    known = [
        rock_salt(4.20, id="a"),
        rock_salt(4.22, id="b"),
        rock_salt(4.9, id="far"),
        rock_salt(4.2, (20, 8), id="CaO"),
    ]
    index = StructureIndex(known)
    assert {crystal.id for crystal in index.find_all(supercell(rock_salt(4.21), (1, 2, 1)))} == {"a", "b"}
    distorted = replace(known[1], id="distorted", positions=known[1].positions + np.diag([0.02, 0, 0])[:2])
    index = StructureIndex([distorted, known[0]])
    found = index.find_all(known[1])
    assert [crystal.id for crystal in found] == ["a", "distorted"]
    assert index.find(known[1]) is found[0]
    assert index.find_all(rock_salt(4.2, (38, 8))) == []


def test_similar_structures_are_found_on_request():
    known = [rock_salt(4.0, id="small"), rock_salt(4.2, id="equal"), rock_salt(4.6, id="large")]
    index = StructureIndex(known)
    assert [crystal.id for crystal in index.find_all(rock_salt(4.2))] == ["equal"]
    assert {crystal.id for crystal in index.find_all(rock_salt(4.2), similar=True)} == {"small", "equal"}
    # The caesium chloride structure of the same volume is another one.
    other = Crystal.from_fractional("CsCl", [12, 8], [[0, 0, 0], [0.5] * 3], 4.2 * 2 ** (-2 / 3) * np.eye(3))
    assert index.find_all(other, similar=True) == []

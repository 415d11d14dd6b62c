# SPDX-License-Identifier: MIT
"""Crystals to label: the same for the same seed, without duplicates, overlaps and unknown elements."""

from dataclasses import replace

import numpy as np
import pytest

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.crystals.elements import COVALENT_RADII, SUBSTITUTION_GROUPS
from dtnn_fast.distillation.crystal_variants import substitute_elements, substitutes
from dtnn_fast.distillation.made_crystals import (
    MADE_SOURCE,
    SMALLEST_RATIO,
    Bonds,
    CrystalSettings,
    is_held_out,
    make_crystals,
)

ALL = range(1, 95)


def rock_salt(first: int, second: int, size: float) -> Crystal:
    faces = size / 2 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    return Crystal.from_fractional(f"{first}-{second}", [first, second], [[0, 0, 0], [0.5, 0.5, 0.5]], faces)


def test_radii_and_groups_are_those_of_the_periodic_table():
    data = pytest.importorskip("ase.data")
    np.testing.assert_allclose(COVALENT_RADII[1:97], data.covalent_radii[1:97])
    flat = [z for group in SUBSTITUTION_GROUPS for z in group]
    assert len(flat) == len(set(flat))
    assert set(range(3, 84)) - set(flat) == set()
    assert substitutes(38, ALL) == [4, 12, 20, 56]
    assert substitutes(38, {12, 38}) == [12]
    assert substitutes(1, ALL) == []


def test_same_seed_same_crystals_and_more_of_them_begin_alike(sources):
    few = make_crystals(sources, CrystalSettings(made=30), ALL).crystals
    again = make_crystals(sources, CrystalSettings(made=30), ALL).crystals
    more = make_crystals(sources, CrystalSettings(made=50), ALL).crystals
    other = make_crystals(sources, CrystalSettings(made=30, seed=1), ALL).crystals
    assert [c.id for c in few] == [c.id for c in again]
    assert all((a.positions == b.positions).all() for a, b in zip(few, again, strict=True))
    by_id = {c.id: c for c in more}
    assert all((by_id[c.id].positions == c.positions).all() for c in few)
    assert len({c.id for c in few} & {c.id for c in other}) < len(few)


def test_made_crystals_are_sound(sources):
    allowed = set(ALL) - {17}
    settings = CrystalSettings(made=100)
    crystals, dropped = make_crystals(sources, settings, allowed)
    made = [c for c in crystals if c.source == MADE_SOURCE]
    real = [c for c in crystals if c.source != MADE_SOURCE]
    with_chlorine = [c for c in sources if 17 in c.atomic_numbers]
    assert dropped["element unknown to the teacher"] == len(with_chlorine) > 0
    assert len(made) == 100
    assert {c.id for c in real} < {c.id for c in sources}
    assert all(allowed.issuperset(c.atomic_numbers.tolist()) for c in crystals)
    assert all(Bonds(c).smallest_ratio() >= SMALLEST_RATIO for c in made)
    fingerprints = [Bonds(c).fingerprint() for c in crystals]
    assert len(set(fingerprints)) == len(fingerprints)
    by_id = {c.id: c for c in real}
    changed = [c for c in made if c.chemical_system != by_id[c.id.split("-made-")[0]].chemical_system]
    assert 30 < len(changed) < 100
    assert len(make_crystals([], settings, allowed).crystals) == 0


def test_substitution_keeps_bonds_in_proportion_to_the_radii():
    crystal = rock_salt(11, 17, 5.64)
    rng = np.random.default_rng(0)
    for _ in range(10):
        other = substitute_elements(crystal, rng, ALL)
        assert not np.array_equal(other.atomic_numbers, crystal.atomic_numbers)
        ratio = COVALENT_RADII[other.atomic_numbers].sum() / COVALENT_RADII[crystal.atomic_numbers].sum()
        np.testing.assert_allclose(other.cell, ratio * crystal.cell)
        np.testing.assert_allclose(other.positions @ np.linalg.inv(other.cell), [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert substitute_elements(rock_salt(1, 1, 4.0), rng, ALL) is None


def test_overlaps_and_duplicates_are_dropped():
    crystal = rock_salt(11, 17, 5.64)
    close = rock_salt(11, 17, 3.2)
    doubled = Crystal.make(
        "doubled",
        np.tile(crystal.atomic_numbers, 2),
        np.concatenate([crystal.positions, crystal.positions + crystal.cell[0]])[[3, 1, 0, 2]],
        crystal.cell * [[2], [1], [1]],
    )
    doubled = replace(doubled, atomic_numbers=doubled.atomic_numbers[[3, 1, 0, 2]])
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    turned = replace(doubled, id="turned", positions=doubled.positions @ rotation, cell=doubled.cell @ rotation)
    larger = rock_salt(11, 17, 5.9)
    result = make_crystals([crystal, close, doubled, turned, larger], CrystalSettings(made=0), ALL)
    assert result.dropped == {"overlap of atoms": 1, "duplicate": 2}
    assert sorted(c.cell.max() for c in result.crystals) == [5.64 / 2, 5.9 / 2]


def test_whole_chemical_systems_are_held_out(sources):
    held = {c.chemical_system: is_held_out(c, 0.3) for c in sources}
    assert 0 < sum(held.values()) < len(held)
    crystals = make_crystals(sources, CrystalSettings(made=100), ALL).crystals
    for crystal in crystals:
        assert is_held_out(crystal, 0.3) == held.get(crystal.chemical_system, is_held_out(crystal, 0.3))
    systems = {c.chemical_system for c in crystals}
    part = np.mean([is_held_out(next(c for c in crystals if c.chemical_system == s), 0.3) for s in systems])
    assert 0.15 < part < 0.45
    assert rock_salt(17, 11, 5.0).chemical_system == "Cl-Na"


@pytest.mark.parametrize("wrong", [{"made": -1}, {"held_out": 0.0}, {"most_atoms_made": 0}, {"rattle": -0.1}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="CrystalSettings: expected"):
        CrystalSettings(**wrong)

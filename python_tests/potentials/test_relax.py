# SPDX-License-Identifier: MIT
"""Relaxation: the minimum, symmetry that is kept, labels that are dropped, and what runs away."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from model_cases import rattled
from pair_potential import crystals_of_many_groups, pair_energy, pair_forces, pair_stress
from potential_cases import PairPotential, named, rocksalt, without

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.crystals.insulators import is_known_insulator
from dtnn_fast.errors import BadCrystalError
from dtnn_fast.potentials import relax
from dtnn_fast.symmetry import find_operations

pytest.importorskip("ase")


def test_finds_the_minimum():
    bonds = np.linspace(2.2, 2.3, 2001)
    expected = bonds[np.argmin([pair_energy(rocksalt(bond)) for bond in bonds])]
    start = rocksalt(2.35)
    relaxed = relax(start, PairPotential(), largest_force=1e-5)
    volume = abs(np.linalg.det(relaxed.crystal.cell))
    assert (volume / 2) ** (1 / 3) == pytest.approx(expected, abs=1e-4)
    assert relaxed.volume_ratio == pytest.approx((expected / 2.35) ** 3, rel=1e-4)
    assert relaxed.energy_change == pytest.approx(pair_energy(rocksalt(expected)) - pair_energy(start), rel=1e-6)
    assert relaxed.num_steps > 1
    assert relaxed.crystal.id == start.id


def near_the_minimum(crystal: Crystal) -> Crystal:
    """Scale a crystal to the volume at which the pair potential has its lowest energy."""
    scales = np.linspace(0.6, 1.6, 201)
    scaled = [replace(crystal, positions=s * crystal.positions, cell=s * crystal.cell) for s in scales]
    return min(scaled, key=pair_energy)


@pytest.mark.parametrize(
    "crystal", crystals_of_many_groups()[3::12], ids=lambda crystal: str(crystal.info["space_group"])
)
def test_keeps_the_space_group(crystal):
    start = near_the_minimum(crystal)
    relaxed = relax(start, PairPotential(), largest_force=1e-3, largest_volume_change=0.9).crystal
    assert np.abs(pair_forces(relaxed)).max() < 1e-3
    assert np.abs(pair_stress(relaxed)).max() * abs(np.linalg.det(relaxed.cell)) / relaxed.num_atoms < 1e-3
    found = find_operations(replace(relaxed, operations=None))
    assert len(found) >= len(start.operations)
    np.testing.assert_array_equal(relaxed.operations.rotations, start.operations.rotations)


def test_a_saddle_point_stays():
    """A chain of two atoms in a long cell is unstable, but symmetry forbids all motions."""
    crystal = Crystal.make("chain", [3, 9], np.array([[0, 0, 0], [0, 0, 3.3]]), np.diag([3.0, 3.0, 6.6]))
    relaxed = relax(crystal, PairPotential(), relax_cell=False)
    np.testing.assert_allclose(relaxed.crystal.positions[1] - relaxed.crystal.positions[0], [0, 0, 3.3], atol=1e-9)
    assert relaxed.num_steps == 0


def test_forces_and_stresses_that_break_the_symmetry_are_averaged():
    def biased(crystal, result):
        shear = 1e-3 * np.array([[1.0, 2.0, 3.0], [2.0, -1.0, 1.0], [3.0, 1.0, 0.0]])
        pull = np.array([[0.1, 0.05, 0.0], [-0.1, -0.05, 0.0]])
        return result._replace(forces=result.forces + pull, stress=result.stress + shear)

    start = rocksalt(2.35)
    expected = relax(start, PairPotential()).crystal
    found = relax(start, PairPotential(change=biased)).crystal
    np.testing.assert_allclose(found.cell, expected.cell, atol=1e-9)
    np.testing.assert_allclose(found.positions[1] - found.positions[0], found.cell.sum(0) / 2, atol=1e-9)


def test_a_fixed_cell():
    start = rattled(rocksalt(), amplitude=0.2)
    relaxed = relax(start, PairPotential(), relax_cell=False)
    np.testing.assert_array_equal(relaxed.crystal.cell, start.cell)
    assert np.linalg.norm(pair_forces(relaxed.crystal), axis=1).max() <= 0.005
    assert relaxed.volume_ratio == 1
    assert relaxed.energy_change < -0.01


def test_labels_belong_to_the_structure_before():
    labelled = replace(
        rocksalt(),
        targets={"ionic": np.eye(3)},
        diagonals={"electronic": np.ones(3)},
        means={"total": 3.0},
        born_charges=np.zeros((2, 3, 3)),
        force_constants=np.zeros((6, 6)),
    )
    crystal = relax(labelled, PairPotential()).crystal
    assert not crystal.has_label
    assert crystal.force_constants is None
    assert is_known_insulator(crystal)
    assert not is_known_insulator(relax(rocksalt(), PairPotential()).crystal)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (without(stress=np.eye(3)), {}, "diverges: after [0-9]+ steps the volume is 0.[4-7]"),
        (without(stress=-np.eye(3)), {}, "diverges: after [0-9]+ steps the volume is 1.[2-9]"),
        (without(), {"max_steps": 1, "largest_force": 1e-7}, "does not converge: .* after at most 1 steps"),
        (without(energy=np.nan), {}, "NaN or infinite"),
        (without(forces=np.full((2, 3), np.inf)), {}, "NaN or infinite"),
        (without(stress=None), {}, "has no stress to relax a cell"),
    ],
)
def test_what_runs_away(change, options, message):
    crystal = named(rattled(rocksalt(), amplitude=0.05), "LiF 7")
    with pytest.raises(BadCrystalError, match=message) as error:
        relax(crystal, PairPotential(change=change), **options)
    assert str(error.value).startswith("LiF 7: ")
    if "stress" in message:
        assert relax(crystal, PairPotential(change=change), relax_cell=False).num_steps > 0


def test_failures_and_unknown_elements():
    with pytest.raises(BadCrystalError, match="LiF: the potential pairs fails on it: RuntimeError: too hot"):
        relax(rocksalt(), PairPotential(fails_on="LiF"))
    with pytest.raises(BadCrystalError, match="elements Li, F are unknown"):
        relax(rocksalt(), PairPotential(frozenset({8})))

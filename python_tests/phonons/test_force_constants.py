# SPDX-License-Identifier: MIT
"""Force constants by symmetric displacements: exact ones, all displacements, cells, and forces that are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from model_cases import orthogonal, permuted, rattled, recelled, transformed, unwrapped
from pair_potential import (
    crystals_of_many_groups,
    embedded_forces,
    forces_of,
    pair_energy,
    pair_forces,
    pair_hessian,
)

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.errors import BadCrystalError
from dtnn_fast.phonons import DisplacementPlan, find_force_constants, force_constants
from dtnn_fast.symmetry import with_operations

# Central differences err by the square of this; forces of order 1 have 16 digits.
STEP = 3e-5
MANY = crystals_of_many_groups()
CUBIC = next(crystal for crystal in MANY if crystal.info["space_group"] == 225 and crystal.num_atoms == 2)


def assert_equal(actual, expected, tolerance=1e-6):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def all_displacements(crystal, forces=pair_forces):
    """Central differences along x, y and z of every atom, in the simplest way."""
    columns = []
    for coordinate in range(3 * crystal.num_atoms):
        step = np.zeros(3 * crystal.num_atoms)
        step[coordinate] = STEP
        ahead, behind = (
            forces(replace(crystal, positions=crystal.positions + sign * step.reshape(-1, 3))) for sign in (1, -1)
        )
        columns.append((behind - ahead).reshape(-1) / (2 * STEP))
    return np.array(columns).T


def test_the_potential_of_the_tests():
    crystal = rattled(CUBIC)
    step = STEP * np.random.default_rng(0).normal(size=crystal.positions.shape)
    moved = [pair_energy(replace(crystal, positions=crystal.positions + sign * step)) for sign in (1, -1)]
    assert (moved[1] - moved[0]) / 2 == pytest.approx(float((pair_forces(crystal) * step).sum()), rel=1e-6)
    assert_equal(all_displacements(crystal), pair_hessian(crystal), 1e-7)


@pytest.mark.parametrize("crystal", MANY, ids=[str(crystal.info["space_group"]) for crystal in MANY])
def test_equals_the_exact_ones(crystal):
    found = find_force_constants(crystal, forces_of, STEP)
    # The crystal is made exactly symmetric first: compare there.
    symmetric = DisplacementPlan.of(crystal).crystal
    assert np.abs(np.linalg.norm(symmetric.cell - crystal.cell, axis=1)).max() < 1e-3
    assert_equal(found.matrix, pair_hessian(symmetric))
    assert found.asymmetry < 1e-6 * np.abs(found.matrix).max()
    assert found.translation_force < 1e-6 * np.abs(found.matrix).max()
    plain = 6 * crystal.num_atoms
    assert found.num_displacements <= (plain if crystal.operations is None else plain / 2)


def test_a_cubic_crystal_needs_one_displacement_of_each_atom():
    assert find_force_constants(CUBIC, forces_of).num_displacements == 2


@pytest.mark.parametrize("crystal", MANY[::8], ids=lambda crystal: str(crystal.info["space_group"]))
def test_equals_all_displacements(crystal):
    symmetric = DisplacementPlan.of(crystal).crystal
    expected = all_displacements(symmetric)
    without = find_force_constants(replace(symmetric, operations=None), forces_of, STEP)
    assert without.num_displacements == 6 * crystal.num_atoms
    assert_equal(without.matrix, expected)
    assert_equal(force_constants(crystal, forces_of, STEP), expected)


@pytest.mark.parametrize("crystal", MANY[1::4], ids=lambda crystal: str(crystal.info["space_group"]))
def test_potentials_of_many_bodies(crystal):
    symmetric = DisplacementPlan.of(crystal).crystal
    expected = all_displacements(symmetric, embedded_forces)
    found = force_constants(crystal, lambda crystals: [embedded_forces(each) for each in crystals], STEP)
    expected = 0.5 * (expected + expected.T)
    assert_equal(found, expected)
    if crystal.num_atoms > 4:
        blocks = expected.reshape(crystal.num_atoms, 3, crystal.num_atoms, 3)
        assert np.abs(blocks - blocks.transpose(0, 3, 2, 1)).max() > 1e-4 * np.abs(blocks).max()


@pytest.mark.parametrize("crystal", MANY[2::16], ids=lambda crystal: str(crystal.info["space_group"]))
@pytest.mark.parametrize("cell", [[[2, 0, 0], [0, 1, 0], [0, 0, 1]], [[1, 0, 0], [3, 1, 0], [-2, 1, 1]]])
def test_other_cells(crystal, cell):
    """Supercells, whose operations include translations, sheared cells, and other frames, orders and images."""
    symmetric = DisplacementPlan.of(crystal).crystal
    other = transformed(recelled(replace(symmetric, operations=None), cell), orthogonal(2, improper=True))
    other = unwrapped(permuted(other, np.random.default_rng(1).permutation(other.num_atoms)))
    [other] = with_operations([other])
    found = find_force_constants(other, forces_of, STEP)
    assert_equal(found.matrix, pair_hessian(other))
    if crystal.operations is not None:
        assert found.num_displacements < 6 * crystal.num_atoms


def test_a_crystal_that_is_only_nearly_symmetric():
    """Forces of the crystal at rest must not enter: those that break the symmetry are as large as the others."""
    moved = CUBIC.positions + np.array([[0, 0, 0], [4e-4, 0, 0]])
    nearly = replace(CUBIC, positions=moved)
    assert_equal(force_constants(nearly, forces_of), pair_hessian(CUBIC), 2e-3)
    far = replace(CUBIC, positions=CUBIC.positions + np.array([[0, 0, 0], [0.1, 0, 0]]))
    with pytest.raises(BadCrystalError, match="expected `operations` that map the crystal onto itself"):
        force_constants(far, forces_of)


def test_at_a_structure_with_forces():
    crystal = rattled(CUBIC)
    crystal = replace(crystal, operations=None)
    assert np.abs(pair_forces(crystal)).max() > 0.1
    assert_equal(force_constants(crystal, forces_of, STEP), pair_hessian(crystal))


@pytest.mark.parametrize("crystal", MANY[::10], ids=lambda crystal: str(crystal.info["space_group"]))
def test_forces_at_rest_that_break_the_symmetry(crystal):
    """As those of a potential that is not quite invariant under reflections."""
    bias = np.random.default_rng(7).normal(size=crystal.positions.shape)
    biased = find_force_constants(crystal, lambda crystals: [forces + bias for forces in forces_of(crystals)])
    assert_equal(biased.matrix, find_force_constants(crystal, forces_of).matrix, 1e-9)


def test_one_atom():
    crystal = Crystal.make("Po", [84], np.zeros((1, 3)), 3.3 * np.eye(3))
    np.testing.assert_allclose(force_constants(crystal, forces_of), np.zeros((3, 3)), atol=1e-9)


def test_violations_are_reported_and_taken_out():
    noise = np.random.default_rng(3)
    crystal = replace(MANY[10], operations=None)
    size = 1e-3

    def noisy(crystals):
        return [forces + size * noise.normal(size=forces.shape) for forces in forces_of(crystals)]

    found = find_force_constants(crystal, noisy, 0.01)
    assert size / 0.01 < found.asymmetry < 10 * size / 0.01
    assert size / 0.01 < found.translation_force < 40 * size / 0.01
    np.testing.assert_array_equal(found.matrix, found.matrix.T)
    np.testing.assert_allclose(found.matrix.reshape(crystal.num_atoms, 3, -1).sum(0), 0, atol=1e-9)


def test_forces_that_do_not_fit_are_refused():
    crystal = next(crystal for crystal in MANY if crystal.num_atoms == 3 and crystal.operations is not None)

    def spoiled(change):
        def forces(crystals):
            return change(forces_of(crystals))

        return forces

    needed = DisplacementPlan.of(crystal).crystals()
    for change, message in (
        (lambda all_forces: all_forces[1:], f"expected forces of {len(needed)} crystals, got {len(needed) - 1}"),
        (lambda all_forces: [forces[1:] for forces in all_forces], r"of shape \[3, 3\], got \[2, 3\]"),
        (lambda all_forces: [forces.T.reshape(1, 3, 3) for forces in all_forces], r"got \[1, 3, 3\]"),
        (lambda all_forces: [np.where(forces == forces.max(), np.nan, forces) for forces in all_forces], "NaN"),
        (lambda all_forces: [np.full_like(forces, np.inf) for forces in all_forces], "infinite"),
    ):
        with pytest.raises(BadCrystalError, match=message) as error:
            force_constants(crystal, spoiled(change))
        assert crystal.id in str(error.value)


@pytest.mark.parametrize("crystal", [crystal for crystal in MANY if crystal.num_atoms > 4][::12], ids=lambda c: c.id)
def test_forces_in_another_order_are_refused(crystal):
    order = np.random.default_rng(5).permutation(crystal.num_atoms)
    with pytest.raises(BadCrystalError, match="in the order of the crystal"):
        force_constants(crystal, lambda crystals: [forces[order] for forces in forces_of(crystals)])


@pytest.mark.parametrize("displacement", [0.0, -0.01, np.nan, np.inf])
def test_displacements_are_positive(displacement):
    with pytest.raises(ValueError, match="positive `displacement`"):
        force_constants(CUBIC, forces_of, displacement)


def test_bad_crystals_are_refused():
    with pytest.raises(BadCrystalError, match="not periodic along c"):
        force_constants(replace(CUBIC, pbc=np.array([True, True, False])), forces_of)
    with pytest.raises(BadCrystalError, match="no volume"):
        force_constants(replace(CUBIC, cell=np.ones((3, 3))), forces_of)

# SPDX-License-Identifier: MIT
"""The primitive cell of a supercell, and its part of the force constants."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from model_cases import recelled
from pair_potential import crystals_of_many_groups, pair_energy, pair_hessian

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.crystals.lattice import reduce_cell
from dtnn_fast.phonons import DisplacementPlan, primitive_part, with_primitive_part
from dtnn_fast.symmetry import with_operations

CELLS = [np.diag([2, 1, 1]), np.diag([2, 2, 1]), np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])]
CELLS += [np.array([[1, 1, 0], [0, 2, 1], [0, 0, 3]]), np.array([[1, 0, 4], [0, 1, 3], [0, 0, 7]])]


def plan_of(crystal: Crystal) -> DisplacementPlan:
    return DisplacementPlan.of(with_operations([crystal])[0])


def primitive_crystals() -> list[Crystal]:
    return [crystal for crystal in crystals_of_many_groups() if primitive_part(plan_of(crystal)) is None][::6]


@pytest.mark.parametrize("cell", CELLS)
def test_supercells_have_the_primitive_cell_and_its_part(cell):
    for crystal in primitive_crystals():
        supercell = replace(recelled(crystal, cell), operations=None)
        count = round(abs(np.linalg.det(cell)))
        plan = plan_of(supercell)
        part = primitive_part(plan)
        assert part.crystal.num_atoms * count == supercell.num_atoms
        assert np.bincount(part.atoms).tolist() == [count] * part.crystal.num_atoms
        np.testing.assert_array_equal(part.crystal.atomic_numbers[part.atoms], supercell.atomic_numbers)
        assert pair_energy(part.crystal) * count == pytest.approx(pair_energy(plan.crystal), rel=1e-9)
        volume = abs(np.linalg.det(reduce_cell(crystal.cell)))
        assert abs(np.linalg.det(part.crystal.cell)) == pytest.approx(volume, rel=1e-3)
        exact, primitive = pair_hessian(plan.crystal), pair_hessian(part.crystal)
        scale = np.abs(exact).max()
        np.testing.assert_allclose(with_primitive_part(exact, primitive, part.atoms), exact, atol=1e-9 * scale)
        # Any other part of this period is replaced.
        noise = np.random.default_rng(0).normal(size=primitive.shape)
        wrong = with_primitive_part(exact, noise + noise.T, part.atoms)
        assert np.abs(wrong - exact).max() > 0.01
        np.testing.assert_allclose(with_primitive_part(wrong, primitive, part.atoms), exact, atol=1e-9 * scale)


def test_a_primitive_cell_has_no_such_part():
    crystals = primitive_crystals()
    assert len(crystals) > 5
    supercell = replace(recelled(crystals[0], CELLS[0]), operations=None)
    assert primitive_part(DisplacementPlan.of(supercell)) is None  # its translations are not known

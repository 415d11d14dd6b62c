# SPDX-License-Identifier: MIT
"""Potentials of bond vectors: energies, forces and stresses of the pair potential, in batches, and lone atoms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from model_cases import rattled, recelled, small_crystals
from pair_potential import CUTOFF, pair_energy, pair_forces, pair_stress

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.errors import BadCrystalError
from dtnn_fast.potentials import BondPotential


class TorchPairs(BondPotential):
    """The pair potential in torch."""

    def __init__(self, cutoff=CUTOFF, batch_atoms=64):
        super().__init__("pairs", range(1, 119), cutoff, batch_atoms)
        self.sizes: list[int] = []

    def atom_energies(self, atomic_numbers, bonds):
        self.sizes.append(len(atomic_numbers))
        i, j = bonds.pairs
        length = bonds.vectors.norm(dim=1)
        z = atomic_numbers.to(length.dtype)
        depth, width = 1.0 + 0.02 * (z[i] - z[j]).abs(), 1.8 + 0.003 * (z[i] + z[j])
        decay = torch.exp(-width * (length - 2.4 - 0.004 * (z[i] + z[j])))
        energies = 0.5 * depth * (decay**2 - 2 * decay) * (1 - (length / CUTOFF) ** 2) ** 4
        return torch.zeros_like(z).index_add(0, i, energies)


CRYSTALS = [
    *(rattled(crystal, seed=number) for number, crystal in enumerate(small_crystals(6, max_atoms=8))),
    recelled(rattled(small_crystals(1)[0]), [[1, 0, 0], [2, 1, 0], [0, 0, 2]]),
]


@pytest.mark.parametrize("batch_atoms", [1, 12, 1000])
def test_equals_the_pair_potential(batch_atoms):
    potential = TorchPairs(batch_atoms=batch_atoms)
    results = potential.evaluate(CRYSTALS)
    for crystal, result in zip(CRYSTALS, results, strict=True):
        scale = np.abs(pair_forces(crystal)).max()
        assert result.energy == pytest.approx(pair_energy(crystal), rel=1e-9)
        np.testing.assert_allclose(result.forces, pair_forces(crystal), atol=1e-9 * scale)
        expected = pair_stress(crystal)
        np.testing.assert_allclose(result.stress, expected, atol=1e-9 * np.abs(expected).max())
        np.testing.assert_array_equal(result.stress, result.stress.T)
    assert len(potential.sizes) == {1: 7, 1000: 1}.get(batch_atoms, len(potential.sizes))
    for forces, result in zip(potential.forces(CRYSTALS), results, strict=True):
        np.testing.assert_array_equal(forces, result.forces)


def test_stress_is_the_derivative_by_the_strain():
    crystal, step = CRYSTALS[2], 1e-5
    strain = step * np.array([[0.3, -0.2, 0.5], [-0.2, 0.1, 0.7], [0.5, 0.7, -0.4]])
    energies = []
    for sign in (1, -1):
        stretch = np.eye(3) + sign * strain
        stretched = replace(crystal, positions=crystal.positions @ stretch, cell=crystal.cell @ stretch)
        energies.append(TorchPairs().evaluate([stretched])[0].energy)
    volume = abs(np.linalg.det(crystal.cell))
    stress = TorchPairs().evaluate([crystal])[0].stress
    assert volume * (stress * strain).sum() == pytest.approx((energies[0] - energies[1]) / 2, rel=1e-6)


def test_lone_atoms_feel_nothing():
    alone = Crystal.make("He", [2], np.zeros((1, 3)), 20.0 * np.eye(3))
    for crystals in ([alone], [CRYSTALS[0], alone, CRYSTALS[1]]):
        results = TorchPairs().evaluate(crystals)
        [result] = [result for crystal, result in zip(crystals, results, strict=True) if crystal is alone]
        assert result.energy == 0
        np.testing.assert_array_equal(result.forces, np.zeros((1, 3)))
        np.testing.assert_array_equal(result.stress, np.zeros((3, 3)))
    assert results[0].energy == pytest.approx(pair_energy(CRYSTALS[0]))
    assert TorchPairs().evaluate([]) == []


def test_open_directions_are_refused():
    with pytest.raises(BadCrystalError, match="periodic in all directions"):
        TorchPairs().evaluate([replace(CRYSTALS[0], pbc=np.array([True, True, False]))])

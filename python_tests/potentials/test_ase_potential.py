# SPDX-License-Identifier: MIT
"""Calculators of ASE as potentials: the pair potential through ASE, calculators without stress, and ones that fail."""

from __future__ import annotations

import numpy as np
import pytest
from model_cases import rattled, small_crystals
from pair_potential import pair_energy, pair_forces, pair_stress
from potential_cases import rocksalt

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.errors import BadCrystalError
from dtnn_fast.potentials import AsePotential

calculators = pytest.importorskip("ase.calculators.calculator")


class PairCalculator(calculators.Calculator):
    implemented_properties = ("energy", "forces", "stress")

    def calculate(self, atoms=None, properties=("energy",), system_changes=calculators.all_changes):
        super().calculate(atoms, properties, system_changes)
        crystal = Crystal.make("x", self.atoms.numbers, self.atoms.positions, np.array(self.atoms.cell))
        if 2 in crystal.atomic_numbers:
            raise KeyError("no helium")
        stress = pair_stress(crystal)
        self.results = {
            "energy": pair_energy(crystal),
            "forces": pair_forces(crystal),
            "stress": stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]],
        }


def test_results_come_through():
    crystals = [rattled(crystal) for crystal in small_crystals(3)]
    potential = AsePotential(PairCalculator(), elements=[1, 8])
    assert potential.name == "PairCalculator"
    assert potential.elements == {1, 8}
    for crystal, result in zip(crystals, potential.evaluate(crystals), strict=True):
        assert result.energy == pytest.approx(pair_energy(crystal))
        np.testing.assert_allclose(result.forces, pair_forces(crystal), rtol=1e-12)
        np.testing.assert_allclose(result.stress, pair_stress(crystal), rtol=1e-9, atol=1e-12)


def test_calculators_without_stress():
    class NoStress(PairCalculator):
        implemented_properties = ("energy", "forces")

    assert AsePotential(NoStress()).evaluate([rocksalt()])[0].stress is None


def test_a_calculator_that_fails_names_the_crystal():
    helium = Crystal.make("solid He", [2], np.zeros((1, 3)), 2.5 * np.eye(3))
    with pytest.raises(BadCrystalError, match="solid He: the potential pairs fails on it: KeyError: 'no helium'"):
        AsePotential(PairCalculator(), "pairs").evaluate([rocksalt(), helium])


def test_check_lists_unknown_elements():
    AsePotential(PairCalculator()).check(rocksalt())
    with pytest.raises(BadCrystalError, match="elements Li, F are unknown"):
        AsePotential(PairCalculator(), elements=[8]).check(rocksalt())

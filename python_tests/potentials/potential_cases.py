# SPDX-License-Identifier: MIT
"""Crystals and potentials that the tests of potentials share."""

from dataclasses import replace

import numpy as np
from pair_potential import pair_energy, pair_forces, pair_stress

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.potentials import Potential, PotentialResult

# About where the pair potential of the tests has its minimum. Angstrom
ROCKSALT_BOND = 2.3


def rocksalt(bond: float = ROCKSALT_BOND) -> Crystal:
    cell = bond * (1 - np.eye(3))
    return Crystal.make("LiF", [3, 9], np.array([[0, 0, 0], [bond, bond, bond]]), cell)


class PairPotential(Potential):
    """The pair potential of the tests; it can be told to fail on a crystal."""

    def __init__(self, elements=None, fails_on="", change=lambda crystal, result: result):
        super().__init__("pairs", elements)
        self.fails_on, self.change = fails_on, change
        self.calls: list[int] = []

    def evaluate(self, crystals):
        self.calls.append(len(crystals))
        if any(self.fails_on and crystal.id.startswith(self.fails_on) for crystal in crystals):
            raise RuntimeError("too hot")
        return [
            self.change(each, PotentialResult(pair_energy(each), pair_forces(each), pair_stress(each)))
            for each in crystals
        ]


def without(**fields):
    """A change of results for `PairPotential`."""
    return lambda crystal, result: result._replace(**fields)


def named(crystal: Crystal, name: str) -> Crystal:
    return replace(crystal, id=name, source="")

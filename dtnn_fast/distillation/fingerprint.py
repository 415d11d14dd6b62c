# SPDX-License-Identifier: MIT
"""What the distances in a crystal tell: whether atoms overlap, and whether two crystals are one and the same."""

from __future__ import annotations

from collections import Counter
from math import gcd

import numpy as np

from ..crystals.crystal import Crystal
from ..numpy import neighbor_list
from .substitution import RADII

REACH = 5.0
# Bonds shorter than this part of the sum of the covalent radii are overlaps; the shortest that is bundled has 0.649.
SMALLEST_RATIO = 0.64
_BIN = 0.02


class Distances:
    """The bonds of a crystal up to 5 Angstrom.

    Args:
        crystal: a crystal that passed `check_crystal`.
    """

    def __init__(self, crystal: Crystal) -> None:
        self.numbers = crystal.atomic_numbers
        self.center: np.ndarray
        self.neighbor: np.ndarray
        self.length: np.ndarray
        self.center, self.neighbor, self.length = neighbor_list(
            "ijd", crystal.positions, REACH, crystal.cell, crystal.pbc, half=True, num_threads=1
        )

    def shortest_ratio(self) -> float:
        """The shortest bond in units of the sum of its covalent radii; infinite where there is no bond."""
        radii = RADII[self.numbers]
        ratios = self.length / (radii[self.center] + radii[self.neighbor])
        return float(ratios.min(initial=np.inf))

    def fingerprint(self) -> tuple[object, ...]:
        """Reduced composition, and for each pair of elements the sum of exp(-d / Angstrom) per atom, rounded by 2 %.

        Equal for another cell, supercell, orientation or order of the atoms, and but for rounding for structures that
        differ by less than about 1 % in their distances.
        """
        counts = Counter(self.numbers.tolist())
        divisor = gcd(*counts.values())
        composition = tuple(sorted((z, count // divisor) for z, count in counts.items()))
        ends = np.sort(self.numbers[np.stack([self.center, self.neighbor])], axis=0)
        pairs, places = np.unique(ends[0] * 256 + ends[1], return_inverse=True)
        sums = np.bincount(places, weights=np.exp(-self.length), minlength=len(pairs)) / len(self.numbers)
        return composition, tuple(pairs.tolist()), tuple(np.rint(np.log(sums) / _BIN).astype(int).tolist())

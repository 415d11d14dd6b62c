# SPDX-License-Identifier: MIT
"""Search for a crystal among known ones by its structure: same atoms at the same distances, whatever name and cell."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from math import gcd

import numpy as np

from ..numpy import _core
from .crystal import Crystal
from .packed import PackedCrystals

# Functionals and experiments differ by a few per cent in the volume of the same crystal.
LARGEST_VOLUME_DIFFERENCE = 0.05
# Distances between pair distributions: about 1e-4 after atoms moved by 0.01 Angstrom and lattice vectors by 0.5 %;
# 1.4e-2 between the 2H and 4H polytypes of ZnS, 4e-3 between two orders of cations and vacancies in CdIn2Se4.
LARGEST_DISTANCE = 1e-3
# Wider limits for calculations of the same crystal with another functional. Of 1,134 pairs of calculations in four data
# sets that pymatgen's StructureMatcher holds for the same crystal they find 97 %, where the limits above find 56 %. Of
# 533 pairs of polymorphs they take 18 % for the same, the limits above 0.2 %.
SIMILAR_VOLUME_DIFFERENCE = 0.2
SIMILAR_DISTANCE = 0.04
# Lengths of bonds are taken in units of the cube root of the volume per atom, so that volumes do not matter.
_CUTOFF = 3.2
_STEP = 0.02
_WIDTH = 0.08
_NUM_BINS = round(_CUTOFF / _STEP) + 1
_SMOOTHING = np.exp(-0.5 * np.square(_STEP * (np.arange(_NUM_BINS)[:, None] - np.arange(_NUM_BINS)) / _WIDTH))

_Composition = tuple[tuple[int, int], ...]


class StructureIndex:
    """Known crystals that are found by structure.

    Args:
        crystals: crystals that passed `check_crystal`.
    """

    def __init__(self, crystals: Iterable[Crystal]) -> None:
        self._by_composition: defaultdict[_Composition, list[tuple[Crystal, float]]] = defaultdict(list)
        self._distributions: dict[int, np.ndarray] = {}
        for crystal in crystals:
            self._by_composition[_reduced_composition(crystal)].append((crystal, _volume_per_atom(crystal)))

    def __len__(self) -> int:
        return sum(map(len, self._by_composition.values()))

    def find(self, crystal: Crystal) -> Crystal | None:
        """Find the known crystal with the structure of a crystal.

        It has the same reduced composition, a whole multiple or fraction of its atoms in the cell, the same volume per
        atom within 5 %, and the same distribution of distances between each two elements. So the choice of the cell,
        its orientation and the order of the atoms do not matter. Mirror images count as one structure.

        Args:
            crystal: a crystal that passed `check_crystal`.

        Returns:
            The known crystal with the most similar distances, or None.
        """
        return next(iter(self.find_all(crystal)), None)

    def find_all(self, crystal: Crystal, similar: bool = False) -> list[Crystal]:
        """Find all known crystals with the structure of a crystal, those with the most similar distances first.

        Args:
            crystal: see `find`.
            similar: find similar structures too, with up to 20 % more or less volume and less similar distances. It
                finds nearly all calculations of the same crystal, and some polymorphs.
        """
        largest_difference = SIMILAR_VOLUME_DIFFERENCE if similar else LARGEST_VOLUME_DIFFERENCE
        largest_distance = SIMILAR_DISTANCE if similar else LARGEST_DISTANCE
        same_composition = self._by_composition.get(_reduced_composition(crystal))
        if same_composition is None:
            return []
        volume = _volume_per_atom(crystal)
        candidates = [
            known
            for known, known_volume in same_composition
            if max(known.num_atoms, crystal.num_atoms) % min(known.num_atoms, crystal.num_atoms) == 0
            and abs(known_volume / volume - 1.0) <= largest_difference
        ]
        if not candidates:
            return []
        wanted = pair_distribution(crystal)
        distances = np.array([distribution_distance(wanted, self._distribution(known)) for known in candidates])
        order = np.argsort(distances, kind="stable").tolist()
        return [candidates[place] for place in order if distances[place] <= largest_distance]

    def _distribution(self, known: Crystal) -> np.ndarray:
        """Return the pair distribution of a known crystal, which is computed when it is first needed."""
        key = id(known)
        if key not in self._distributions:
            self._distributions[key] = pair_distribution(known)
        return self._distributions[key]


def pair_distribution(crystal: Crystal) -> np.ndarray:
    """Compute the smoothed distribution of the distances between each two elements.

    Distances are in units of the cube root of the volume per atom, up to 3.2, with a weight that falls to zero there.

    Args:
        crystal: a crystal that passed `check_crystal`.

    Returns:
        Density at equidistant lengths per atom, for each two of the sorted elements, in the order (0, 0), (1, 0),
        (1, 1), (2, 0) and so on. [E (E + 1) / 2, bins], float64
    """
    unit = _volume_per_atom(crystal) ** (1.0 / 3.0)
    elements, element_of_atom = np.unique(crystal.atomic_numbers, return_inverse=True)
    packed = PackedCrystals.of([crystal])
    histogram = _core.pair_histogram(
        packed.positions, packed.cells[0], element_of_atom.astype(np.int64), len(elements), unit, _STEP, _NUM_BINS
    )
    smooth: np.ndarray = (histogram / crystal.num_atoms) @ _SMOOTHING
    return smooth


def distribution_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Compute one minus the cosine of the angle between two pair distributions of the same elements."""
    norms = np.linalg.norm(first) * np.linalg.norm(second)
    return 1.0 - float(np.vdot(first, second) / norms) if norms else 1.0


def _reduced_composition(crystal: Crystal) -> _Composition:
    counts = Counter(crystal.atomic_numbers.tolist())
    divisor = gcd(*counts.values())
    return tuple(sorted((z, count // divisor) for z, count in counts.items()))


def _volume_per_atom(crystal: Crystal) -> float:
    return abs(float(np.linalg.det(crystal.cell))) / crystal.num_atoms

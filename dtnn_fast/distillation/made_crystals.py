# SPDX-License-Identifier: MIT
"""The crystals to learn from: real ones, and rattled, strained and element-substituted ones made of them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ..crystals.checks import check_crystal
from ..crystals.crystal import Crystal
from ..crystals.elements import SYMBOLS
from ..errors import BadCrystalError
from .fingerprint import SMALLEST_RATIO, Distances
from .substitution import RADII, substituted

# A source whose variants all fall out must not hold up the making of the others for good.
_MOST_TRIES = 5
# The source of made crystals.
MADE = "made"


@dataclass(frozen=True)
class CrystalSettings:
    """How the crystals are made.

    Args:
        made: how many crystals are made of the real ones; fewer where too many tries fall out.
        most_atoms_real: larger real crystals are left out.
        most_atoms_made: crystals are made of real ones up to this size.
        rattle: largest standard deviation of the displacements. Angstrom.
        strain: largest standard deviation of the components of the strain.
        held_out: about which part of the chemical systems is kept aside.
        seed: the same seed makes the same crystals.

    Raises:
        ValueError: a setting is out of range.
    """

    made: int = 16000
    most_atoms_real: int = 40
    most_atoms_made: int = 12
    rattle: float = 0.12
    strain: float = 0.04
    held_out: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        fits = self.made >= 0 and min(self.most_atoms_real, self.most_atoms_made) >= 1 and 0 < self.held_out < 1
        if not fits or min(self.rattle, self.strain, self.seed) < 0:
            raise ValueError(
                f"CrystalSettings: expected sizes of 1 or more, `held_out` between 0 and 1 and nothing negative, "
                f"got {self}"
            )


class MadeCrystals(NamedTuple):
    """The crystals to label.

    Args:
        crystals: in random order, so that any part is a fair sample of the whole.
        dropped: how many were dropped, by reason.
    """

    crystals: list[Crystal]
    dropped: dict[str, int]


def chemical_system(crystal: Crystal) -> str:
    """The sorted symbols of a crystal's elements, for example ``"O-Sr-Ti"``."""
    return "-".join(sorted(SYMBOLS[z] for z in np.unique(crystal.atomic_numbers).tolist()))


def is_held_out(crystal: Crystal, fraction: float) -> bool:
    """Whether the crystal's chemical system is one of those kept aside; it depends on nothing but the elements."""
    digest = hashlib.sha256(chemical_system(crystal).encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64


def make_crystals(sources: Sequence[Crystal], settings: CrystalSettings, elements: Collection[int]) -> MadeCrystals:
    """Choose the real crystals and make others of them.

    Args:
        sources: real crystals.
        settings: how many, how large, how far from the real ones.
        elements: atomic numbers that the teacher knows.

    Returns:
        The crystals without duplicates and overlaps, and how many were dropped.
    """
    usable = {z for z in elements if z < len(RADII)}
    dropped: Counter[str] = Counter()
    seen: set[tuple[object, ...]] = set()
    real = [c for c in sources if _is_new(c, usable, settings.most_atoms_real, seen, dropped)]
    small = [c for c in real if c.num_atoms <= settings.most_atoms_made]
    made: list[Crystal] = []
    for crystal in _variants(small, settings, usable):
        if len(made) == settings.made:
            break
        if _is_new(crystal, usable, settings.most_atoms_made, seen, dropped):
            made.append(crystal)
    crystals = real + made
    order = np.random.default_rng((settings.seed, 1)).permutation(len(crystals))
    return MadeCrystals([crystals[index] for index in order.tolist()], dict(dropped))


def _is_new(
    crystal: Crystal, elements: set[int], most_atoms: int, seen: set[tuple[object, ...]], dropped: Counter[str]
) -> bool:
    """Whether a crystal can be used and was not there before; the reason against it is counted."""
    if crystal.num_atoms > most_atoms:
        dropped["too many atoms"] += 1
        return False
    if not elements.issuperset(crystal.atomic_numbers.tolist()):
        dropped["element unknown to the teacher"] += 1
        return False
    try:
        check_crystal(crystal)
    except BadCrystalError:
        dropped["no proper crystal"] += 1
        return False
    distances = Distances(crystal)
    if distances.shortest_ratio() < SMALLEST_RATIO:
        dropped["overlap of atoms"] += 1
        return False
    fingerprint = distances.fingerprint()
    if fingerprint in seen:
        dropped["duplicate"] += 1
        return False
    seen.add(fingerprint)
    return True


def _variants(sources: Sequence[Crystal], settings: CrystalSettings, elements: Collection[int]) -> Iterator[Crystal]:
    """Variants of random sources; half of them keep the symmetry of a real structure, with other elements."""
    if not sources:
        return
    for number in range(_MOST_TRIES * settings.made):
        # Its own numbers for each variant: more of them never changes the first ones.
        rng = np.random.default_rng((settings.seed, 0, number))
        source = sources[int(rng.integers(len(sources)))]
        kind = rng.random()
        crystal: Crystal | None = source
        if kind < 0.75:
            crystal = substituted(source, rng, elements)
        if crystal is None:
            continue
        if kind >= 0.5:
            crystal = _rattled(
                _strained(crystal, settings.strain * rng.random(), rng), settings.rattle * rng.random(), rng
            )
        yield replace(crystal, id=f"{source.id}-made-{number}", source=MADE, targets={}, info={})


def _strained(crystal: Crystal, spread: float, rng: np.random.Generator) -> Crystal:
    """A crystal deformed by 1 + e, e symmetric with components of standard deviation `spread`."""
    strain = spread * rng.normal(size=(3, 3))
    deformation = np.eye(3) + 0.5 * (strain + strain.T)
    return replace(crystal, positions=crystal.positions @ deformation, cell=crystal.cell @ deformation)


def _rattled(crystal: Crystal, spread: float, rng: np.random.Generator) -> Crystal:
    """A crystal whose atoms are displaced by `spread` Angstrom in each direction."""
    return replace(crystal, positions=crystal.positions + spread * rng.normal(size=crystal.positions.shape))

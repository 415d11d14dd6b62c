# SPDX-License-Identifier: MIT
"""Crystals to label: real ones, and substituted, strained and rattled ones made of them.

Duplicates and crystals with overlapping atoms are dropped. Whole chemical systems are held out from training.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from math import gcd
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..crystals.checks import check_crystal
from ..crystals.crystal import Crystal, Rejected
from ..crystals.elements import COVALENT_RADII
from ..crystals.substitution import SMALLEST_RATIO
from ..datasets.bundled import load_all
from ..errors import BadCrystalError, DTNNError
from ..formats.find_files import find_files, read_files
from ..numpy import neighbor_list
from .crystal_variants import rattle, strain, substitute_elements

# `Crystal.source` of made crystals.
MADE_SOURCE = "made"
BOND_CUTOFF = 5.0  # Angstrom
# Tries per wanted crystal: making ends even where every variant of the sources is dropped.
_MAX_TRIES = 5
# Rounding of the logarithms in a fingerprint.
_LOG_STEP = 0.02


@dataclass(frozen=True)
class CrystalSettings:
    """Settings of the crystals to label.

    Args:
        made: number of crystals made of the real ones; fewer where too many tries are dropped.
        most_atoms_real: larger real crystals are left out.
        most_atoms_made: crystals are made of real ones up to this number of atoms.
        rattle: largest standard deviation of the displacements. Angstrom.
        strain: largest standard deviation of the components of the strain.
        held_out: approximate fraction of the chemical systems that is held out.
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


class CrystalsToLabel(NamedTuple):
    """Real and made crystals.

    Args:
        crystals: in random order, so that any part is a fair sample of the whole.
        dropped: number of dropped crystals by reason.
    """

    crystals: list[Crystal]
    dropped: dict[str, int]


def load_sources(paths: Sequence[Path] = ()) -> tuple[list[Crystal], list[Rejected]]:
    """Load the real crystals; they need no labels.

    Args:
        paths: files and folders; empty for all crystals that come with dtnn_fast, each id once.

    Returns:
        The crystals, and the records of those that cannot be read.

    Raises:
        DTNNError: no crystal can be read.
    """
    if not paths:
        return load_all(), []
    files = find_files(paths)
    items = list(read_files(files.files))
    crystals = [item for item in items if isinstance(item, Crystal)]
    rejected = [*files.rejected, *(item for item in items if isinstance(item, Rejected))]
    if not crystals:
        message = f"distill: no crystals found in {', '.join(map(str, paths))}"
        if rejected:
            message += f"; {rejected[0].source or rejected[0].id}: {rejected[0].reason}"
        if len(rejected) > 1:
            message += f" (and {len(rejected) - 1} more)"
        raise DTNNError(message)
    return crystals, rejected


def make_crystals(sources: Sequence[Crystal], settings: CrystalSettings, elements: Collection[int]) -> CrystalsToLabel:
    """Choose the real crystals and make others of them.

    Args:
        sources: real crystals.
        settings: number and size of the crystals, and their distance from the real ones.
        elements: atomic numbers that the teacher knows.

    Returns:
        The crystals without duplicates and overlaps, and the number of dropped ones.
    """
    usable = {z for z in elements if z < len(COVALENT_RADII)}
    dropped: Counter[str] = Counter()
    fingerprints: set[tuple[object, ...]] = set()

    def is_kept(crystal: Crystal, max_atoms: int) -> bool:
        reason = _drop_reason(crystal, usable, max_atoms, fingerprints)
        if reason is not None:
            dropped[reason] += 1
        return reason is None

    real = [c for c in sources if is_kept(c, settings.most_atoms_real)]
    small = [c for c in real if c.num_atoms <= settings.most_atoms_made]
    made: list[Crystal] = []
    for crystal in _variants(small, settings, usable):
        if len(made) == settings.made:
            break
        if is_kept(crystal, settings.most_atoms_made):
            made.append(crystal)
    crystals = real + made
    order = np.random.default_rng((settings.seed, 1)).permutation(len(crystals))
    return CrystalsToLabel([crystals[index] for index in order.tolist()], dict(dropped))


def _variants(sources: Sequence[Crystal], settings: CrystalSettings, elements: Collection[int]) -> Iterator[Crystal]:
    """Make variants of random sources: 1/2 substituted, 1/4 strained and rattled, 1/4 all three.

    A crystal that is only substituted keeps the symmetry of its source.
    """
    if not sources:
        return
    for number in range(_MAX_TRIES * settings.made):
        # Each variant has its own random numbers: a larger number of crystals never changes the first ones.
        rng = np.random.default_rng((settings.seed, 0, number))
        source = sources[int(rng.integers(len(sources)))]
        draw = rng.random()
        crystal: Crystal | None = source
        if draw < 0.75:
            crystal = substitute_elements(source, rng, elements)
        if crystal is None:
            continue
        if draw >= 0.5:
            crystal = strain(crystal, settings.strain * rng.random(), rng)
            crystal = rattle(crystal, settings.rattle * rng.random(), rng)
        yield replace(
            crystal, id=f"{source.id}-made-{number}", source=MADE_SOURCE, targets={}, info={}, operations=None
        )


def _drop_reason(
    crystal: Crystal, elements: set[int], max_atoms: int, fingerprints: set[tuple[object, ...]]
) -> str | None:
    """Give the reason to drop a crystal, or None for a good one, whose fingerprint is added to the others."""
    if crystal.num_atoms > max_atoms:
        return "too many atoms"
    if not elements.issuperset(crystal.atomic_numbers.tolist()):
        return "element unknown to the teacher"
    try:
        check_crystal(crystal)
    except BadCrystalError:
        return "invalid crystal"
    bonds = Bonds(crystal)
    if bonds.smallest_ratio() < SMALLEST_RATIO:
        return "overlap of atoms"
    fingerprint = bonds.fingerprint()
    if fingerprint in fingerprints:
        return "duplicate"
    fingerprints.add(fingerprint)
    return None


class Bonds:
    """The bonds of a crystal up to 5 Angstrom, for finding overlaps and duplicates.

    Args:
        crystal: a crystal that passed `check_crystal`.
    """

    def __init__(self, crystal: Crystal) -> None:
        self.numbers = crystal.atomic_numbers
        self.center: np.ndarray
        self.neighbor: np.ndarray
        self.length: np.ndarray
        self.center, self.neighbor, self.length = neighbor_list(
            "ijd", crystal.positions, BOND_CUTOFF, crystal.cell, crystal.pbc, half=True, num_threads=1
        )

    def smallest_ratio(self) -> float:
        """Give the smallest ratio of a bond length to the sum of its covalent radii; infinite without bonds."""
        radii = COVALENT_RADII[self.numbers]
        ratios = self.length / (radii[self.center] + radii[self.neighbor])
        return float(ratios.min(initial=np.inf))

    def fingerprint(self) -> tuple[object, ...]:
        """Give the reduced composition, and for each pair of elements the sum of exp(-d / Angstrom) per atom.

        The sums are rounded by 2 %. The fingerprint does not depend on the choice of cell, supercell, orientation or
        order of the atoms. Except for rounding it is the same for structures whose distances differ by less than 1 %.
        """
        counts = Counter(self.numbers.tolist())
        divisor = gcd(*counts.values())
        composition = tuple(sorted((z, count // divisor) for z, count in counts.items()))
        ends = np.sort(self.numbers[np.stack([self.center, self.neighbor])], axis=0)
        pairs, pair_of_bond = np.unique(ends[0] * 256 + ends[1], return_inverse=True)
        sums = np.bincount(pair_of_bond, weights=np.exp(-self.length), minlength=len(pairs)) / len(self.numbers)
        return composition, tuple(pairs.tolist()), tuple(np.rint(np.log(sums) / _LOG_STEP).astype(int).tolist())


def is_held_out(crystal: Crystal, fraction: float) -> bool:
    """Tell whether the chemical system of a crystal is held out; this depends on its elements only.

    Args:
        crystal: real or made.
        fraction: approximate fraction of all chemical systems that is held out.
    """
    digest = hashlib.sha256(crystal.chemical_system.encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64

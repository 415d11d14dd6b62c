# SPDX-License-Identifier: MIT
"""The crystals to learn from: real ones, and rattled, strained and element-substituted ones made of them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import gcd
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..crystals.checks import check_crystal
from ..crystals.crystal import Crystal, Rejected
from ..crystals.elements import SYMBOLS, atomic_number
from ..datasets.bundled import load_labelled, load_structures
from ..errors import BadCrystalError, DTNNError
from ..formats.find_files import find_files, read_files
from ..numpy import neighbor_list

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


# Hydrogen forms bonds like no other element and has no group here.
_GROUPS = (
    *("Li Na K Rb Cs", "Be Mg Ca Sr Ba", "Sc Y La", "Ti Zr Hf", "V Nb Ta", "Cr Mo W", "Mn Tc Re", "Fe Ru Os"),
    *("Co Rh Ir", "Ni Pd Pt", "Cu Ag Au", "Zn Cd Hg", "B Al Ga In Tl", "C Si Ge Sn Pb", "N P As Sb Bi"),
    *("O S Se Te", "F Cl Br I", "He Ne Ar Kr Xe", "Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu", "Ac Th Pa U Np Pu"),
)
GROUPS = tuple(tuple(atomic_number(name) for name in group.split()) for group in _GROUPS)

# Covalent radii of the elements 1 to 96 in Angstrom: B. Cordero et al., Dalton Trans. 2008, 2832, Table 2.
_RADII = (
    *(0.31, 0.28, 1.28, 0.96, 0.84, 0.76, 0.71, 0.66, 0.57, 0.58, 1.66, 1.41, 1.21, 1.11, 1.07, 1.05),
    *(1.02, 1.06, 2.03, 1.76, 1.70, 1.60, 1.53, 1.39, 1.39, 1.32, 1.26, 1.24, 1.32, 1.22, 1.22, 1.20),
    *(1.19, 1.20, 1.20, 1.16, 2.20, 1.95, 1.90, 1.75, 1.64, 1.54, 1.47, 1.46, 1.42, 1.39, 1.45, 1.44),
    *(1.42, 1.39, 1.39, 1.38, 1.39, 1.40, 2.44, 2.15, 2.07, 2.04, 2.03, 2.01, 1.99, 1.98, 1.98, 1.96),
    *(1.94, 1.92, 1.92, 1.89, 1.90, 1.87, 1.87, 1.75, 1.70, 1.62, 1.51, 1.44, 1.41, 1.36, 1.36, 1.32),
    *(1.45, 1.46, 1.48, 1.40, 1.50, 1.50, 2.60, 2.21, 2.15, 2.06, 2.00, 1.96, 1.90, 1.87, 1.80, 1.69),
)
# RADII[z] belongs to atomic number z; place 0 is no element. [97], Angstrom.
RADII = np.array([np.nan, *_RADII])


def relatives(element: int, allowed: Collection[int]) -> list[int]:
    """The other elements of an element's group, of those that are allowed, in the order of the group."""
    group = next((group for group in GROUPS if element in group), ())
    return [z for z in group if z != element and z in allowed]


def substituted(crystal: Crystal, rng: np.random.Generator, allowed: Collection[int]) -> Crystal | None:
    """Exchange at least one element of a crystal for another one of its group.

    Each element changes with probability 1/2, on all its sites at once. The cell is scaled by the ratio of the summed
    covalent radii, so that bonds have about the length that they should.

    Args:
        crystal: what to change.
        rng: draws the elements.
        allowed: atomic numbers that may come in.

    Returns:
        The crystal, or None where no element has a relative or two elements would become one.
    """
    present = np.unique(crystal.atomic_numbers).tolist()
    choices = {z: relatives(z, allowed) for z in present}
    changeable = [z for z in present if choices[z]]
    if not changeable:
        return None
    changed = [z for z in changeable if rng.random() < 0.5] or [changeable[int(rng.integers(len(changeable)))]]
    into = {z: int(rng.choice(choices[z])) if z in changed else z for z in present}
    if len(set(into.values())) < len(present):
        return None
    numbers = np.array([into[z] for z in crystal.atomic_numbers.tolist()], dtype=np.int64)
    scale = RADII[numbers].sum() / RADII[crystal.atomic_numbers].sum()
    return replace(crystal, atomic_numbers=numbers, positions=scale * crystal.positions, cell=scale * crystal.cell)


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


def load_sources(paths: Sequence[Path] = ()) -> tuple[list[Crystal], list[Rejected]]:
    """Load crystals; labels are not needed.

    Args:
        paths: files and folders; none means all crystals that come with dtnn_fast, each id once.

    Returns:
        The crystals, and what could not be read.

    Raises:
        DTNNError: nothing could be read.
    """
    if not paths:
        crystals = load_labelled()
        known = {crystal.id for crystal in crystals}
        return crystals + [crystal for crystal in load_structures() if crystal.id not in known], []
    found = find_files(paths)
    items: Iterable[Crystal | Rejected] = read_files(found.files)
    read = list(items)
    crystals = [item for item in read if isinstance(item, Crystal)]
    rejected = [*found.rejected, *(item for item in read if isinstance(item, Rejected))]
    if not crystals:
        reasons = [f"{one.source or one.id}: {one.reason}" for one in rejected[:1]]
        more = f" (and {len(rejected) - 1} more)" if len(rejected) > 1 else ""
        found_none = f"distill: no crystals found in {', '.join(map(str, paths))}"
        raise DTNNError("; ".join([found_none, *reasons]) + more)
    return crystals, rejected

# SPDX-License-Identifier: MIT
"""Whether a composition can be an insulator, by oxidation states alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from itertools import product
from math import gcd, prod
from typing import NamedTuple

from .elements import atomic_number

# Symbol, group, Pauling's electronegativity, common oxidation states, others seen in the ICSD; as pymatgen 2026.10
# lists them. ``tools/oxidation_states.py`` prints this table.
_TABLE = """
H 1 2.2 -1,1 -; He 18 - - -; Li 1 0.98 1 -; Be 2 1.57 2 -; B 13 2.04 3 -3; C 14 2.55 -4,-3,-2,-1,0,1,2,3,4 -;
N 15 3.04 -3,3,5 -2,-1,1; O 16 3.44 -2 -; F 17 3.98 -1 -; Ne 18 - - -; Na 1 0.93 1 -; Mg 2 1.31 2 -;
Al 13 1.61 3 -; Si 14 1.9 -4,4 -; P 15 2.19 -3,3,5 -2,-1,4; S 16 2.58 -2,2,4,6 -1; Cl 17 3.16 -1,1,3,5,7 -;
Ar 18 - - -; K 1 0.82 1 -; Ca 2 1 2 -; Sc 3 1.36 3 2; Ti 4 1.54 4 2,3; V 5 1.63 5 2,3,4; Cr 6 1.66 3,6 2,4,5;
Mn 7 1.55 2,4,7 3; Fe 8 1.83 2,3 -; Co 9 1.88 2,3 1,4; Ni 10 1.91 2 1,3,4; Cu 11 1.9 2 1,3; Zn 12 1.65 2 -;
Ga 13 1.81 3 2; Ge 14 2.01 -4,2,4 3; As 15 2.18 -3,3,5 -2,-1,2; Se 16 2.55 -2,2,4,6 -1; Br 17 2.96 -1,1,3,5 -;
Kr 18 3 2 -; Rb 1 0.82 1 -; Sr 2 0.95 2 -; Y 3 1.22 3 -; Zr 4 1.33 4 2,3; Nb 5 1.6 5 2,3,4; Mo 6 2.16 4,6 2,3,5;
Tc 7 1.9 4,7 -; Ru 8 2.2 3,4 2,5,6; Rh 9 2.28 3 4; Pd 10 2.2 2,4 -; Ag 11 1.93 1 2,3; Cd 12 1.69 2 -;
In 13 1.78 3 1,2; Sn 14 1.96 -4,2,4 3; Sb 15 2.05 -3,3,5 -2,-1; Te 16 2.1 -2,2,4,6 -1; I 17 2.66 -1,1,3,5,7 -;
Xe 18 2.6 2,4,6 -; Cs 1 0.79 1 -; Ba 2 0.89 2 -; La 3 1.1 3 2; Ce 3 1.12 3,4 -; Pr 3 1.13 3 4; Nd 3 1.14 3 2;
Pm 3 1.13 3 -; Sm 3 1.17 3 2; Eu 3 1.2 2,3 -; Gd 3 1.2 3 -; Tb 3 1.1 3 4; Dy 3 1.22 3 -; Ho 3 1.23 3 -;
Er 3 1.24 3 -; Tm 3 1.25 3 -; Yb 3 1.1 3 2; Lu 3 1.27 3 -; Hf 4 1.3 4 -; Ta 5 1.5 5 3,4; W 6 2.36 4,6 2,3,5;
Re 7 1.9 4,7 3,5,6; Os 8 2.2 4 -; Ir 9 2.2 3,4 5; Pt 10 2.28 2,4 -; Au 11 2.54 3 -; Hg 12 2 1,2 -;
Tl 13 1.62 1,3 -; Pb 14 2.33 2,4 -; Bi 15 2.02 3 1,2,5; Po 16 2 -2,2,4 -; At 17 2.2 -1,1 -; Rn 18 2.2 - -;
Fr 1 0.7 1 -; Ra 2 0.9 2 -; Ac 3 1.1 3 -; Th 3 1.3 4 -; Pa 3 1.5 5 -; U 3 1.38 6 3,4,5; Np 3 1.36 5 -;
Pu 3 1.28 4 -; Am 3 1.3 3 -; Cm 3 1.3 3 -; Bk 3 1.3 3 -; Cf 3 1.3 3 -; Es 3 1.3 3 -; Fm 3 1.3 3 -; Md 3 1.3 3 -;
No 3 1.3 3 -; Lr 3 1.3 3 -
"""
_STRONG_ANIONS = frozenset(map(atomic_number, ["N", "O", "F", "S", "Cl", "Se", "Br", "I"]))
_WEAK_ANIONS = frozenset(map(atomic_number, ["H", "B", "C", "Si", "P", "Ge", "As", "Sb", "Te"]))
_INSULATING_ELEMENTS = frozenset(
    map(
        atomic_number,
        [
            "H",
            "He",
            "B",
            "C",
            "N",
            "O",
            "F",
            "Ne",
            "Si",
            "P",
            "S",
            "Cl",
            "Ar",
            "Ge",
            "As",
            "Se",
            "Br",
            "Kr",
            "Te",
            "I",
            "Xe",
        ],
    )
)
# Groups whose ions have partly filled d shells: with a weak anion (FeSi, CoAs) these are metals more often than not.
_OPEN_SHELL_GROUPS = range(7, 11)
# Largest number of combinations of states to try; a composition that needs more counts as unbalanced.
_MAX_COMBINATIONS = 100_000


class _States(NamedTuple):
    group: int
    electronegativity: float
    common: frozenset[int]
    rare: frozenset[int]


def is_charge_balanced(atomic_numbers: Iterable[int]) -> bool:
    """Return whether a composition can be an insulator, by its oxidation states alone.

    The most electronegative element must be an anion former and takes a negative state, metals a positive one, other
    anion formers any. With a strong anion (nitrogen, chalcogens, halogens) every state common or seen in the ICSD
    counts and each atom may take its own (Fe3O4); with a weak one only common states, one for each element, and no
    metal of groups 7 to 10. A single element must be a nonmetal.

    Args:
        atomic_numbers: of the atoms, 1 to 118. [N].
    """
    counts = Counter(atomic_numbers)
    divisor = gcd(*counts.values())
    return _is_balanced(tuple(sorted((z, count // divisor) for z, count in counts.items())))


@cache
def _known_states() -> dict[int, _States]:
    def numbers(text: str) -> frozenset[int]:
        return frozenset() if text == "-" else frozenset(map(int, text.split(",")))

    table = {}
    for entry in _TABLE.split(";"):
        if entry.strip():
            symbol, group, electronegativity, common, rare = entry.split()
            x = -1.0 if electronegativity == "-" else float(electronegativity)
            table[atomic_number(symbol)] = _States(int(group), x, numbers(common), numbers(rare))
    return table


# Bounded: a screening of a million candidates has 400,000 compositions.
@lru_cache(maxsize=4096)
def _is_balanced(composition: tuple[tuple[int, int], ...]) -> bool:
    counts = dict(composition)
    known = _known_states()
    if not known.keys() >= counts.keys():
        return False
    if len(counts) == 1:
        return next(iter(counts)) in _INSULATING_ELEMENTS
    anion = max(counts, key=lambda z: known[z].electronegativity)
    if anion in _STRONG_ANIONS:
        return 0 in _sums_with_mixed_valence(counts, anion)
    if anion in _WEAK_ANIONS:
        if any(z not in _WEAK_ANIONS and known[z].group in _OPEN_SHELL_GROUPS for z in counts):
            return False
        return _has_neutral_sum(counts, anion)
    return False


def _states(z: int, anion: int, *, rare: bool) -> list[int]:
    known = _known_states()[z]
    states = known.common | known.rare if rare else known.common
    if z == anion:
        return sorted(s for s in states if s < 0)
    if z in _STRONG_ANIONS or z in _WEAK_ANIONS:
        return sorted(states)
    return sorted(s for s in states if s > 0)


def _sums_with_mixed_valence(counts: Mapping[int, int], anion: int) -> set[int]:
    sums = {0}
    for z, count in counts.items():
        states = _states(z, anion, rare=True)
        for _ in range(count):
            sums = {total + state for total in sums for state in states}
    return sums


def _has_neutral_sum(counts: Mapping[int, int], anion: int) -> bool:
    choices = [_states(z, anion, rare=False) for z in counts]
    if prod(map(len, choices)) > _MAX_COMBINATIONS:
        return False
    return any(
        sum(state * count for state, count in zip(states, counts.values(), strict=True)) == 0
        for states in product(*choices)
    )

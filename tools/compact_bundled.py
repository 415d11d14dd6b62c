# SPDX-License-Identifier: MIT
"""Store the raw data files compactly in dtnn_fast/datasets/bundled; run from the project's root, with the extra "io".

python tools/compact_bundled.py dielectric_petousis2017.jsonl.gz structures_mp2015.jsonl.gz
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections import Counter
from itertools import product
from math import gcd, isnan, prod
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core import Element

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.crystals.elements import atomic_number
from dtnn_fast.datasets.bundled import (
    LABELLED_FILE,
    SOURCE_NAMES,
    STRUCTURES_FILE,
    TENSOR_SCALE,
    compact_structures,
    expand_structures,
    to_integers,
)
from dtnn_fast.symmetry import crystal_system_of_group, space_group_number


def _elements(symbols: str) -> frozenset[int]:
    return frozenset(atomic_number(symbol) for symbol in symbols.split())


STRONG_ANIONS = _elements("N O F S Cl Se Br I")
WEAK_ANIONS = _elements("H B C Si P Ge As Sb Te")
INSULATING_ELEMENTS = _elements("H He B C N O F Ne Si P S Cl Ar Ge As Se Br Kr Te I Xe")
# Groups whose ions have partly filled d shells: with a weak anion (FeSi, CoAs) these are metals more often than not.
OPEN_SHELL_GROUPS = range(7, 11)
# Largest number of combinations of states to try; a composition that needs more counts as unbalanced.
MAX_COMBINATIONS = 100_000


def is_charge_balanced(atomic_numbers: list[int]) -> bool:
    """Return whether a composition can be an insulator, by its oxidation states alone.

    The most electronegative element must be an anion former and takes a negative state, metals a positive one, other
    anion formers any. With a strong anion (nitrogen, chalcogens, halogens) every state common or seen in the ICSD
    counts and each atom may take its own (Fe3O4); with a weak one only common states, one for each element, and no
    metal of groups 7 to 10. A single element must be a nonmetal.
    """
    counts = Counter(atomic_numbers)
    divisor = gcd(*counts.values())
    counts = Counter({z: count // divisor for z, count in counts.items()})
    if len(counts) == 1:
        return next(iter(counts)) in INSULATING_ELEMENTS
    anion = max(counts, key=_electronegativity)
    if anion in STRONG_ANIONS:
        return 0 in _sums_with_mixed_valence(counts, anion)
    if anion in WEAK_ANIONS:
        if any(z not in WEAK_ANIONS and Element.from_Z(z).group in OPEN_SHELL_GROUPS for z in counts):
            return False
        return _has_neutral_sum(counts, anion)
    return False


def _electronegativity(z: int) -> float:
    value = Element.from_Z(z).X
    return -1.0 if isnan(value) else value


def _states(z: int, anion: int, *, rare: bool) -> list[int]:
    element = Element.from_Z(z)
    states = set(element.common_oxidation_states) | (set(element.icsd_oxidation_states) if rare else set())
    if z == anion:
        return sorted(s for s in states if s < 0)
    if z in STRONG_ANIONS or z in WEAK_ANIONS:
        return sorted(states)
    return sorted(s for s in states if s > 0)


def _sums_with_mixed_valence(counts: Counter[int], anion: int) -> set[int]:
    sums = {0}
    for z, count in counts.items():
        states = _states(z, anion, rare=True)
        for _ in range(count):
            sums = {total + state for total in sums for state in states}
    return sums


def _has_neutral_sum(counts: Counter[int], anion: int) -> bool:
    choices = [_states(z, anion, rare=False) for z in counts]
    if prod(map(len, choices)) > MAX_COMBINATIONS:
        return False
    return any(
        sum(state * count for state, count in zip(states, counts.values(), strict=True)) == 0
        for states in product(*choices)
    )


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a .jsonl.gz file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def compact_labelled(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Store the rows with dielectric tensors, which stay as published: the loader symmetrises them."""
    return compact_structures(rows) | {
        "space_group": np.array([row["space_group"] for row in rows], dtype=np.uint8),
        "crystal_system": np.array([row["crystal_system"] for row in rows]),
        "charge_balanced": np.array([is_charge_balanced(row["atomic_numbers"]) for row in rows]),
        "band_gap_ev": np.array([row["band_gap_ev"] for row in rows], dtype=np.float64),
        "eps_electronic": to_integers([row["eps_electronic"] for row in rows], TENSOR_SCALE),
        "eps_total": to_integers([row["eps_total"] for row in rows], TENSOR_SCALE),
    }


def compact_unlabelled(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Store the rows without tensors, with their space groups from moyopy.

    The files in the package were made with spglib, which finds another group for 32 of 6,631 crystals.
    """
    arrays = compact_structures(rows)
    groups = [_space_group(crystal) for crystal in expand_structures(arrays, "raw")]
    bits = [sum(1 << SOURCE_NAMES.index(name) for name in row["sources"]) for row in rows]
    energies = [row.get("e_above_hull_ev_per_atom", np.nan) for row in rows]
    return arrays | {
        "space_group": np.array(groups, dtype=np.uint8),
        "crystal_system": np.array([crystal_system_of_group(group) for group in groups]),
        "charge_balanced": np.array([is_charge_balanced(row["atomic_numbers"]) for row in rows]),
        "sources": np.array(bits, dtype=np.uint8),
        "e_above_hull_ev_per_atom": np.array(energies, dtype=np.float64),
    }


def _space_group(crystal: Crystal) -> int:
    number = space_group_number(crystal)
    if number is None:
        raise ValueError(f"{crystal.label}: moyopy finds no space group")
    return number


def main() -> None:
    """Write both compact files and print what is in them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labelled", type=Path, help="dielectric_petousis2017.jsonl.gz")
    parser.add_argument("structures", type=Path, help="structures_mp2015.jsonl.gz")
    arguments = parser.parse_args()
    compact = {
        LABELLED_FILE: compact_labelled(read_rows(arguments.labelled)),
        STRUCTURES_FILE: compact_unlabelled(read_rows(arguments.structures)),
    }
    for path, arrays in compact.items():
        path.parent.mkdir(exist_ok=True)
        np.savez_compressed(path, allow_pickle=False, **arrays)
        balanced = int(arrays["charge_balanced"].sum())
        print(f"{path.name}: {len(arrays['id'])} crystals, {balanced} charge-balanced, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()

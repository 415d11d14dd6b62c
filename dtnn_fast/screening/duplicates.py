# SPDX-License-Identifier: MIT
"""Crystals of the same structure among crystals of one composition and prototype."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..crystals.crystal import Crystal
from ..crystals.structure_index import (
    LARGEST_VOLUME_DIFFERENCE,
    SIMILAR_DISTANCE,
    distribution_distance,
    pair_distribution,
)
from ..errors import optional_import


def find_duplicates(crystals: Sequence[Crystal]) -> list[int | None]:
    """Find crystals that have the structure of an earlier one, by pymatgen's StructureMatcher.

    Volumes per atom are compared too, within 5 %: a crystal under pressure, or a candidate at another volume, is
    another one. Crystals whose distributions of distances differ much are not given to the matcher, which is slow.

    Args:
        crystals: of one composition, in the order of the input.

    Returns:
        For each crystal the number of the first one with its structure; None where it is the first itself.

    Raises:
        MissingPackageError: pymatgen is not installed.
    """
    matching = optional_import("pymatgen.analysis.structure_matcher", extra="io", purpose="find duplicate structures")
    structures = optional_import("pymatgen.core", extra="io", purpose="find duplicate structures")
    matcher = matching.StructureMatcher(scale=False)
    firsts: list[tuple[int, float, np.ndarray, Any]] = []
    found: list[int | None] = []
    for number, crystal in enumerate(crystals):
        structure = structures.Structure(
            crystal.cell, crystal.atomic_numbers.tolist(), crystal.positions, coords_are_cartesian=True
        )
        volume = abs(float(np.linalg.det(crystal.cell))) / crystal.num_atoms
        distribution = pair_distribution(crystal)
        alike = (
            place
            for place, of_first, distribution_of_first, first in firsts
            if abs(of_first / volume - 1.0) <= LARGEST_VOLUME_DIFFERENCE
            and distribution_distance(distribution, distribution_of_first) <= SIMILAR_DISTANCE
            and _fits(matcher, first, structure)
        )
        match = next(alike, None)
        found.append(match)
        if match is None:
            firsts.append((number, volume, distribution, structure))
    return found


def _fits(matcher: Any, first: Any, second: Any) -> bool:
    """Compare two structures; those that the matcher fails on are different ones."""
    try:
        return bool(matcher.fit(first, second))
    except Exception:
        # Its failures have many types, and one odd crystal must not end a screening of millions.
        return False

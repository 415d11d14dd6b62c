# SPDX-License-Identifier: MIT
"""Crystals of the same structure among crystals of one composition and prototype."""

from __future__ import annotations

from collections.abc import Sequence

from ..crystals.crystal import Crystal
from ..errors import optional_import


def find_duplicates(crystals: Sequence[Crystal]) -> list[int | None]:
    """Find crystals that have the structure of an earlier one, by pymatgen's StructureMatcher.

    Volumes are compared too: the matcher scales them, and a candidate at another volume is another crystal.

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
    firsts: list[tuple[int, object]] = []
    found: list[int | None] = []
    for number, crystal in enumerate(crystals):
        structure = structures.Structure(
            crystal.cell, crystal.atomic_numbers.tolist(), crystal.positions, coords_are_cartesian=True
        )
        match = next((place for place, first in firsts if matcher.fit(first, structure)), None)
        found.append(match)
        if match is None:
            firsts.append((number, structure))
    return found

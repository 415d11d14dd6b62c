# SPDX-License-Identifier: MIT
"""The structure type of a crystal in one text, and its space group and crystal system, by one search."""

from __future__ import annotations

from collections import Counter
from functools import reduce
from math import gcd
from typing import NamedTuple

from ..crystals.crystal import Crystal
from .bounded_search import SYMPREC
from .crystal_systems import crystal_system_of_group
from .space_group import FoundSymmetry, search_symmetry

# Pairs of space groups that a mirror exchanges; crystals and their mirror images have one prototype, and in their
# frames the same tensors.
_MIRROR_IMAGES = {
    **{78: 76, 95: 91, 96: 92, 145: 144, 153: 151, 154: 152},
    **{170: 169, 172: 171, 179: 178, 181: 180, 213: 212},
}


class SymmetryFacts(NamedTuple):
    """Symmetry facts that are stored with a crystal.

    Args:
        space_group: international number, 1 to 230.
        crystal_system: one of `CRYSTAL_SYSTEMS`.
        prototype: the structure type; see `describe_symmetry`.
        wyckoff: the prototype with the elements in place of letters.
    """

    space_group: int
    crystal_system: str
    prototype: str
    wyckoff: str


def describe_symmetry(crystal: Crystal, symprec: float = SYMPREC) -> SymmetryFacts | None:
    """Describe the symmetry of a crystal in words that do not depend on its cell, its frame, or the order of its atoms.

    The prototype is the composition with letters for the elements (rarest first), the space group, and for each element
    its orbits: the number of atoms in the primitive cell and their site symmetry. Cubic perovskites of all elements are
    ``ABC3_221_1@m-3m_1@m-3m_3@4/mm.m``. Wyckoff letters are not used, since a shift of the origin exchanges them. Of
    two space groups that are mirror images of each other it has the lower number. Different structures can have one
    prototype: those whose free coordinates differ much.

    Args:
        crystal: a crystal that passed `check_crystal`.
        symprec: largest distance of an atom from its symmetric position. Angstrom

    Returns:
        The facts, or None if moyopy finds no symmetry or the crystal has more than `MAX_ATOMS` atoms.

    Raises:
        MissingPackageError: moyopy is not installed.
    """
    found = search_symmetry(crystal, symprec)
    return None if found is None else describe_found(found)


def describe_found(symmetry: FoundSymmetry) -> SymmetryFacts:
    """Describe the symmetry that a search found, as `describe_symmetry` does."""
    crystal, found = symmetry.crystal, symmetry.orbits()
    sites: dict[int, list[str]] = {}
    for atom, count in sorted(Counter(found.orbits.tolist()).items()):
        size = round(count / found.num_primitive_cells, 6)
        sites.setdefault(int(crystal.atomic_numbers[atom]), []).append(f"{size:g}@{found.site_symmetries[atom]}")
    counts = Counter(crystal.atomic_numbers.tolist())
    divisor = reduce(gcd, counts.values())
    texts = {z: "+".join(f"{n}*{t}" if n > 1 else t for t, n in sorted(Counter(sites[z]).items())) for z in sites}
    # Elements with the same number of atoms are told apart by their sites, so that the letters do not depend on them.
    order = sorted(counts, key=lambda z: (counts[z], texts[z], z))
    letters = "".join(
        _letter(place) + (str(counts[z] // divisor) if counts[z] > divisor else "") for place, z in enumerate(order)
    )
    group = _MIRROR_IMAGES.get(found.space_group, found.space_group)
    listed = "_".join(texts[z] for z in order)
    # The same elements on exchanged sites are another crystal: here the elements have a fixed order.
    named = "_".join(f"{z}:{counts[z] // divisor}:{texts[z]}" for z in sorted(counts))
    return SymmetryFacts(
        found.space_group, crystal_system_of_group(group), f"{letters}_{group}_{listed}", f"{group}_{named}"
    )


def _letter(place: int) -> str:
    """Name the elements A, B, ..., Z, then by number; no crystal has so many elements in practice."""
    return chr(ord("A") + place) if place < 26 else f"[{place}]"

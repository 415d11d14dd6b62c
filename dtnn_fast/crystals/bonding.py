# SPDX-License-Identifier: MIT
"""How the atoms of crystals hang together: length of their bonds, lone atoms, layers, chains and molecules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..numpy import _core
from .crystal import Crystal
from .elements import covalent_radii
from .lattice import reduce_cell
from .packed import PackedCrystals

# Beyond this many times the sum of the covalent radii, an atom's nearest neighbor is not searched.
_LONGEST_FRACTION = 3.0


class Bonding(NamedTuple):
    """How the atoms of a crystal hang together, when all neighbors within a cutoff count as bonded.

    Args:
        num_lone_atoms: number of atoms without any bond.
        dimension: number of independent directions in which bonds connect the crystal endlessly: 3 for a crystal, 2 for
            layers, 1 for chains, 0 for molecules and atoms. The smallest value, where parts of the crystal differ.
        bond_fraction: median over the atoms of the distance to the nearest neighbor, over the sum of the two covalent
            radii; about 1 in all crystals, infinite where most atoms have no neighbor within three times the sum.
    """

    num_lone_atoms: int
    dimension: int
    bond_fraction: float


def describe_bonding(crystals: Sequence[Crystal], cutoff: float) -> list[Bonding]:
    """Find how the atoms of crystals hang together, all crystals at once.

    Args:
        crystals: that passed `check_crystal`.
        cutoff: longest distance at which atoms count as bonded. Angstrom

    Returns:
        One entry for each crystal.
    """
    if not crystals:
        return []
    packed = PackedCrystals.of(crystals)
    radii = covalent_radii(packed.atomic_numbers)
    found = _core.describe_bonding(packed.positions, packed.cells, packed.ptr, radii, cutoff)
    results = [Bonding(*values) for values in zip(*(values.tolist() for values in found), strict=True)]
    far = [index for index, bonding in enumerate(results) if not np.isfinite(bonding.bond_fraction)]
    if far:
        fractions = _far_bond_fractions([crystals[index] for index in far])
        for index, fraction in zip(far, fractions, strict=True):
            results[index] = results[index]._replace(bond_fraction=fraction)
    return results


def widest_gap(crystal: Crystal) -> float:
    """Return the width of the widest empty slab between two lattice planes, from atom center to atom center.

    Only slabs parallel to the faces of the compact cell are looked at, which are the widest in common crystals.

    Args:
        crystal: periodic in all directions.

    Returns:
        The width. Angstrom
    """
    to_fractional = np.linalg.inv(reduce_cell(crystal.cell))
    fractional = crystal.positions @ to_fractional
    ordered = np.sort(fractional - np.floor(fractional), axis=0)
    gaps = np.diff(ordered, axis=0, append=ordered[:1] + 1.0).max(axis=0)
    return float((gaps / np.linalg.norm(to_fractional, axis=0)).max())


def _far_bond_fractions(crystals: Sequence[Crystal]) -> list[float]:
    """Compute `Bonding.bond_fraction` where most atoms of a crystal have no neighbor within the usual cutoff."""
    packed = PackedCrystals.of(crystals)
    radii = covalent_radii(packed.atomic_numbers)
    cutoffs = _LONGEST_FRACTION * 2.0 * np.maximum.reduceat(radii, packed.ptr[:-1])
    fractions, _ = _core.nearest_contacts(packed.positions, packed.cells, packed.ptr, radii, cutoffs)
    return [float(np.median(of_atoms)) for of_atoms in np.split(fractions, packed.ptr[1:-1])]

# SPDX-License-Identifier: MIT
"""How the atoms of crystals hang together: length of their bonds, lone atoms, layers, chains and molecules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..numpy import neighbor_list
from .crystal import Crystal
from .elements import covalent_radii
from .lattice import reduce_cell

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
    sizes = np.array([crystal.num_atoms for crystal in crystals])
    ptr = np.concatenate([[0], sizes.cumsum()])
    # In compact cells with wrapped atoms, the shifts are small numbers.
    cells = np.stack([reduce_cell(crystal.cell) for crystal in crystals])
    fractional = [c.positions @ np.linalg.inv(cell) for c, cell in zip(crystals, cells, strict=True)]
    positions = np.concatenate([(f - np.floor(f)) @ cell for f, cell in zip(fractional, cells, strict=True)])
    first, second, lengths, shifts = neighbor_list("ijdS", positions, cutoff, cells, True, ptr=ptr, num_threads=1)

    radii = covalent_radii(np.concatenate([crystal.atomic_numbers for crystal in crystals]))
    nearest = np.full(len(positions), np.inf)
    np.minimum.at(nearest, first, lengths / (radii[first] + radii[second]))
    is_lone = np.bincount(first, minlength=len(positions)) == 0
    dimensions = _dimensions(first, second, shifts, ptr)
    results = []
    for index, (crystal, start, end) in enumerate(zip(crystals, ptr[:-1], ptr[1:], strict=True)):
        atoms = slice(int(start), int(end))
        fraction = float(np.median(nearest[atoms]))
        if not np.isfinite(fraction):
            fraction = _bond_fraction(crystal, cells[index], radii[atoms])
        results.append(Bonding(int(is_lone[atoms].sum()), int(dimensions[atoms].min()), fraction))
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


def _bond_fraction(crystal: Crystal, cell: np.ndarray, radii: np.ndarray) -> float:
    """Compute `Bonding.bond_fraction` for a crystal most of whose atoms have no neighbor within the usual cutoff."""
    cutoff = _LONGEST_FRACTION * 2.0 * float(radii.max())
    first, second, lengths = neighbor_list("ijd", crystal.positions, cutoff, cell, True, num_threads=1)
    nearest = np.full(crystal.num_atoms, np.inf)
    np.minimum.at(nearest, first, lengths / (radii[first] + radii[second]))
    return float(np.median(nearest))


def _dimensions(first: np.ndarray, second: np.ndarray, shifts: np.ndarray, ptr: np.ndarray) -> np.ndarray:
    """Find in how many directions the part of the crystal that each atom belongs to is endless.

    Each part is walked through bond by bond, and each atom gets the lattice translation at which the walk reached it.
    A bond that leads to another translation of a known atom is a period of the part.

    Args:
        first: centers of all bonds, both directions of each. [E]
        second: neighbors. [E]
        shifts: lattice translations of the neighbors. [E, 3]
        ptr: first atom of each crystal, and the number of atoms. [B+1]

    Returns:
        0 to 3 for each atom. [N], int64
    """
    num_atoms = int(ptr[-1])
    part = np.full(num_atoms, -1)
    offset = np.zeros((num_atoms, 3), dtype=np.int64)
    while (part < 0).any():
        # One new part in each crystal that has atoms left: its first atom without a part.
        unvisited = np.flatnonzero(part < 0)
        starts = unvisited[np.unique(np.searchsorted(ptr, unvisited, side="right"), return_index=True)[1]]
        part[starts] = starts
        while True:
            leads_on = np.flatnonzero((part[first] >= 0) & (part[second] < 0))
            if len(leads_on) == 0:
                break
            reached, one_of_many = np.unique(second[leads_on], return_index=True)
            bond = leads_on[one_of_many]
            part[reached] = part[first[bond]]
            offset[reached] = offset[first[bond]] + shifts[bond]
    periods = (offset[first] + shifts - offset[second]).astype(np.float64)
    gram = np.zeros((num_atoms, 3, 3))
    for row in range(3):
        for column in range(3):
            weights = periods[:, row] * periods[:, column]
            gram[:, row, column] = np.bincount(part[first], weights=weights, minlength=num_atoms)
    parts, part_of_atom = np.unique(part, return_inverse=True)
    eigenvalues = np.linalg.eigvalsh(gram[parts])
    # The vectors are integers, so eigenvalues that are not zero are not small.
    rank = (eigenvalues > 1e-6 * np.maximum(eigenvalues[:, -1:], 1.0)).sum(axis=1)
    dimensions: np.ndarray = rank[part_of_atom]
    return dimensions

# SPDX-License-Identifier: MIT
"""Geometry of periodic lattices: the reduced cell, its shortest vector, and the closest pair of atoms."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..numpy import _core

# Product of the lengths of the lattice vectors over the volume: 1 for right angles, below this in common cells.
_SKEWED = 8.0


def reduce_cell(cell: np.ndarray) -> np.ndarray:
    """Return the most compact cell of the same lattice (Minkowski reduced), shortest vector first.

    Args:
        cell: rows are lattice vectors, linearly independent. [3, 3], float64, Angstrom

    Returns:
        rows are lattice vectors. [3, 3], float64, Angstrom
    """
    return _core.compact_cells(_contiguous(cell[None]))[0]


def reduce_cells(cells: np.ndarray) -> np.ndarray:
    """Return the most compact cell of each lattice; see `reduce_cell`. [B, 3, 3] -> [B, 3, 3], Angstrom."""
    return _core.compact_cells(_contiguous(cells))


def shortest_lattice_vector(cell: np.ndarray) -> float:
    """Return the smallest distance between two points of the lattice.

    Args:
        cell: rows are lattice vectors, linearly independent. [3, 3], float64, Angstrom

    Returns:
        The distance, Angstrom.
    """
    return float(np.linalg.norm(reduce_cell(cell)[0]))


class ClosePair(NamedTuple):
    """Two atoms and their distance.

    Args:
        first: index of an atom.
        second: index of the other atom, first < second.
        distance: between the two atoms, periodic images included. Angstrom
        across_border: whether the distance is to a periodic image instead of the given position.
    """

    first: int
    second: int
    distance: float
    across_border: bool


def closest_pair_within(positions: np.ndarray, cell: np.ndarray, max_distance: float) -> ClosePair | None:
    """Find the closest pair of different atoms, periodic images included.

    Args:
        positions: Cartesian positions, need not be wrapped. [N, 3], float64, Angstrom
        cell: rows are lattice vectors, periodic in all directions. [3, 3], float64, Angstrom
        max_distance: pairs at this distance or farther apart are ignored. Angstrom

    Returns:
        A closest pair, or None where all atoms are farther apart.
    """
    found = _core.closest_pair(_contiguous(positions), _contiguous(cell), max_distance)
    if found is None:
        return None
    first, second, distance = found
    as_given = float(np.linalg.norm(positions[second] - positions[first]))
    return ClosePair(first, second, distance, across_border=as_given > distance * (1 + 1e-9) + 1e-9)


def wrap_into_compact_cells(
    positions: np.ndarray, cells: np.ndarray, pbc: np.ndarray, ptr: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Move the atoms of fully periodic crystals into their cells, and make very skewed cells compact.

    In a very skewed cell ``shifts @ cell`` is a small difference of large numbers.

    Args:
        positions: see `PackedCrystals`. [N, 3]
        cells: see `PackedCrystals`. [B, 3, 3]
        pbc: see `PackedCrystals`. [B, 3]
        ptr: see `PackedCrystals`. [B+1]

    Returns:
        Positions [N, 3] and cells of the same lattices [B, 3, 3], Angstrom; unchanged where a direction is not
        periodic.
    """
    is_periodic = np.asarray(pbc.all(axis=1))
    is_skewed = np.linalg.norm(cells, axis=2).prod(axis=1) > _SKEWED * np.abs(np.linalg.det(cells))
    is_skewed &= is_periodic
    if is_skewed.any():
        cells = cells.copy()
        cells[is_skewed] = reduce_cells(cells[is_skewed])
    return _core.wrap_crystals(positions, cells, ptr, is_periodic), cells


def _contiguous(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, dtype=np.float64)

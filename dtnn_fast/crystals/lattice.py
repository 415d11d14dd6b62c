# SPDX-License-Identifier: MIT
"""Geometry of periodic lattices: the reduced cell, its shortest vector, and the closest pair of atoms."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np

# Squared lengths below this are the rounding error of linearly dependent vectors. Angstrom^2
_ROUNDING_ERROR = 1e-12
# Up to this number of atoms, all pairs are compared at once; beyond, only pairs that are close along one direction.
_MAX_ATOMS_FOR_ALL_PAIRS = 200


def reduce_cell(cell: np.ndarray) -> np.ndarray:
    """Return the most compact cell of the same lattice (Minkowski reduced), shortest vector first.

    Args:
        cell: rows are lattice vectors, linearly independent. [3, 3], float64, Angstrom

    Returns:
        rows are lattice vectors. [3, 3], float64, Angstrom
    """
    rows = [np.array(vector) for vector in cell]
    # Every pass shortens a vector, and a lattice has finitely many shorter ones; the tolerance ends ties.
    while True:
        rows.sort(key=_squared_length)
        shortened = False
        for i, j in ((1, 0), (2, 0), (2, 1)):
            shorter = rows[i] - round(float(rows[i] @ rows[j]) / _squared_length(rows[j])) * rows[j]
            if _squared_length(shorter) < _squared_length(rows[i]) * (1 - 1e-12):
                rows[i] = shorter
                shortened = True
        if _squared_length(rows[0]) < _ROUNDING_ERROR:
            return np.array(rows)
        if not shortened:
            # Three vectors at 120 degrees, nearly in a plane: no pair can be shortened, but their sum is shorter.
            a, b, c = rows
            sums = [c + sign_a * a + sign_b * b for sign_a in (-1, 1) for sign_b in (-1, 1)]
            shortest = min(sums, key=_squared_length)
            if _squared_length(shortest) >= _squared_length(c) * (1 - 1e-12):
                return np.array(rows)
            rows[2] = shortest


def _squared_length(vector: np.ndarray) -> float:
    return float(vector @ vector)


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
    compact = reduce_cell(cell)
    to_fractional = np.linalg.inv(compact)
    fractional = positions @ to_fractional
    # A vector shorter than max_distance has fractional components below max_distance / height, whatever the cell's
    # angles.
    limits = max_distance * np.linalg.norm(to_fractional, axis=0) * (1 + 1e-9)
    # With a limit below one half, only the nearest image along each direction can be close enough.
    image_ranges = [range(-n, n + 1) for n in np.floor(limits + 0.5).astype(int).tolist()]
    closest: ClosePair | None = None
    for first, second in _candidate_pairs(fractional - np.floor(fractional), limits):
        difference = fractional[second] - fractional[first]
        nearest_image = difference - np.rint(difference)
        for image in product(*image_ranges):
            shifted = nearest_image + image
            near = np.flatnonzero((np.abs(shifted) <= limits).all(axis=1))
            if len(near) == 0:
                continue
            distances = np.linalg.norm(shifted[near] @ compact, axis=1)
            shortest = int(np.argmin(distances))
            if distances[shortest] < (max_distance if closest is None else closest.distance):
                pair = near[shortest]
                i, j = sorted((int(first[pair]), int(second[pair])))
                across_border = bool(np.abs(shifted[pair] - difference[pair]).max() > 0.5)
                closest = ClosePair(i, j, float(distances[shortest]), across_border)
    return closest


def _candidate_pairs(wrapped: np.ndarray, limits: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield blocks of pairs of atoms that together contain every pair within the limits."""
    num_atoms = len(wrapped)
    if num_atoms <= _MAX_ATOMS_FOR_ALL_PAIRS:
        yield np.triu_indices(num_atoms, k=1)
        return
    # Sorted along the direction with the most room, the gap to the atom `ahead` places further grows with `ahead`.
    axis = int(np.argmin(limits))
    order = np.argsort(wrapped[:, axis], kind="stable")
    coordinates = wrapped[order, axis]
    for ahead in range(1, num_atoms):
        gap = np.roll(coordinates, -ahead) - coordinates
        near = np.flatnonzero(np.where(gap < 0, gap + 1, gap) <= limits[axis])
        if len(near) == 0:
            return
        yield order[near], order[(near + ahead) % num_atoms]

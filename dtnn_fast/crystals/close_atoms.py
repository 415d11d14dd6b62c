# SPDX-License-Identifier: MIT
"""Find atoms that are much too close, exactly and in any cell, at a small part of the cost of a neighbor list."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np

# Up to here all pairs are compared at once; beyond, only those that are close along one lattice direction.
_ALL_PAIRS = 200
# A vector of this squared length is what rounding leaves of linearly dependent ones.
_NOISE = 1e-12


class ClosePair(NamedTuple):
    """Two atoms that are too close; `across_border` where not both are taken at their given positions."""

    first: int
    second: int
    distance: float
    across_border: bool


def reduce_cell(cell: np.ndarray) -> np.ndarray:
    """Give the most compact cell of the same lattice (Minkowski reduced), shortest vector first.

    Args:
        cell: rows are lattice vectors, linearly independent. [3, 3], float64, Angstrom

    Returns:
        rows are lattice vectors. [3, 3], float64, Angstrom
    """
    rows = [np.array(vector) for vector in cell]
    # Every pass shortens a vector, and there are finitely many that are shorter; the tolerance ends ties.
    while True:
        rows.sort(key=_squared)
        shortened = False
        for i, j in ((1, 0), (2, 0), (2, 1)):
            shorter = rows[i] - round(float(rows[i] @ rows[j]) / _squared(rows[j])) * rows[j]
            if _squared(shorter) < _squared(rows[i]) * (1 - 1e-12):
                rows[i] = shorter
                shortened = True
        if _squared(rows[0]) < _NOISE:
            return np.array(rows)
        if not shortened:
            # Three vectors at 120 degrees, nearly in a plane: no pair helps, their sum does.
            a, b, c = rows
            sums = [c + sign_a * a + sign_b * b for sign_a in (-1, 1) for sign_b in (-1, 1)]
            shortest = min(sums, key=_squared)
            if _squared(shortest) >= _squared(c) * (1 - 1e-12):
                return np.array(rows)
            rows[2] = shortest


def shortest_lattice_vector(cell: np.ndarray) -> float:
    """Give the length of the shortest vector between two points of the lattice.

    Args:
        cell: rows are lattice vectors, linearly independent. [3, 3], float64, Angstrom

    Returns:
        The length, Angstrom.
    """
    return float(np.linalg.norm(reduce_cell(cell)[0]))


def closest_pair_within(positions: np.ndarray, cell: np.ndarray, reach: float) -> ClosePair | None:
    """Find the closest two different atoms, periodic images included, if they are within reach.

    Args:
        positions: Cartesian positions, need not be wrapped. [N, 3], float64, Angstrom
        cell: rows are lattice vectors, periodic in all directions. [3, 3], float64, Angstrom
        reach: distances below this count. Angstrom

    Returns:
        A closest pair, first < second, or None where all atoms are further apart.
    """
    compact = reduce_cell(cell)
    to_fractional = np.linalg.inv(compact)
    fractional = positions @ to_fractional
    # A vector shorter than `reach` has fractional components below reach / height, whatever the angles of the cell.
    limits = reach * np.linalg.norm(to_fractional, axis=0) * (1 + 1e-9)
    best: ClosePair | None = None
    for first, second in _candidate_pairs(fractional - np.floor(fractional), limits):
        difference = fractional[second] - fractional[first]
        nearest = difference - np.rint(difference)
        # With a limit below one half the nearest image along each direction is the only one that can be in reach.
        steps = [range(-n, n + 1) for n in np.floor(limits + 0.5).astype(int).tolist()]
        for step in product(*steps):
            shifted = nearest + step
            near = np.flatnonzero((np.abs(shifted) <= limits).all(axis=1))
            if len(near) == 0:
                continue
            distances = np.linalg.norm(shifted[near] @ compact, axis=1)
            place = int(np.argmin(distances))
            if distances[place] < (reach if best is None else best.distance):
                pair = near[place]
                i, j = sorted((int(first[pair]), int(second[pair])))
                across = bool(np.abs(shifted[pair] - difference[pair]).max() > 0.5)
                best = ClosePair(i, j, float(distances[place]), across)
    return best


def _candidate_pairs(wrapped: np.ndarray, limits: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield blocks of pairs of atoms that together hold every pair within the limits."""
    count = len(wrapped)
    if count <= _ALL_PAIRS:
        yield np.triu_indices(count, k=1)
        return
    # Along the direction with the most room, atom m places ahead in sorted order gets further away with every m.
    axis = int(np.argmin(limits))
    order = np.argsort(wrapped[:, axis], kind="stable")
    places = wrapped[order, axis]
    for ahead in range(1, count):
        gap = np.roll(places, -ahead) - places
        near = np.flatnonzero(np.where(gap < 0, gap + 1, gap) <= limits[axis])
        if len(near) == 0:
            return
        yield order[near], order[(near + ahead) % count]


def _squared(vector: np.ndarray) -> float:
    return float(vector @ vector)

# SPDX-License-Identifier: MIT
"""The check that every crystal passes before a model sees it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import product
from typing import NamedTuple

import numpy as np

from ..errors import BadCrystalError
from .crystal import Crystal
from .elements import MAX_ATOMIC_NUMBER, SYMBOLS

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


# Atoms closer than this are one atom entered twice: the shortest bond known, H-H, is 0.74 Angstrom.
SHORTEST_DISTANCE = 0.3
# A cell below this volume per atom is no crystal: solid hydrogen under pressure still has about 2 cubic Angstrom.
SMALLEST_VOLUME_PER_ATOM = 0.5
# Larger coordinates are a wrong unit or garbage, and would lose the digits that distances need.
LARGEST_COORDINATE = 1e6


def check_crystal(crystal: Crystal, known_elements: Collection[int] | None = None) -> None:
    """Check that a crystal can have a bulk dielectric tensor, and that a model can predict it.

    Args:
        crystal: what to check.
        known_elements: atomic numbers that the model knows, or None for all.

    Raises:
        BadCrystalError: there are no atoms; a coordinate is NaN or infinite; the cell has no volume or is not periodic
            in all directions; two atoms, or an atom and its own image, are within 0.3 Angstrom; or an element is not
            known. The message names the crystal and what is wrong.
    """
    check_cell(crystal)
    _check_elements(crystal, known_elements)
    period = shortest_lattice_vector(crystal.cell)
    if period < SHORTEST_DISTANCE:
        raise BadCrystalError(f"{crystal.label}: every atom is {period:.3g} Angstrom from its own periodic image")
    pair = closest_pair_within(crystal.positions, crystal.cell, SHORTEST_DISTANCE)
    if pair is not None:
        raise BadCrystalError(
            f"{crystal.label}: two atoms at one place: atoms {_name(crystal, pair.first)} and "
            f"{_name(crystal, pair.second)}, counted from 0, are {pair.distance:.3g} Angstrom apart"
            + (" across the border of the cell" if pair.across_border else "")
        )


def check_cell(crystal: Crystal) -> None:
    """Check everything about atoms and cell that can be seen without distances and elements.

    Args:
        crystal: what to check.

    Raises:
        BadCrystalError: see `check_crystal`.
    """
    if crystal.num_atoms == 0:
        raise BadCrystalError(f"{crystal.label}: there are no atoms")
    if not np.isfinite(crystal.cell).all():
        raise BadCrystalError(f"{crystal.label}: the cell has a NaN or infinite component")
    finite = np.isfinite(crystal.positions).all(axis=1)
    if not finite.all():
        raise BadCrystalError(
            f"{crystal.label}: the position of atom {_name(crystal, int(np.argmin(finite)))} is NaN or infinite"
        )
    if max(np.abs(crystal.cell).max(), np.abs(crystal.positions).max()) > LARGEST_COORDINATE:
        raise BadCrystalError(
            f"{crystal.label}: a component of the cell or of a position is beyond {LARGEST_COORDINATE:g} Angstrom"
        )
    if not crystal.pbc.all():
        open_directions = ", ".join(axis for axis, periodic in zip("abc", crystal.pbc, strict=True) if not periodic)
        raise BadCrystalError(
            f"{crystal.label}: not periodic along {open_directions}; a dielectric tensor of the bulk needs a crystal "
            "that is periodic in all three directions"
        )
    volume = abs(float(np.linalg.det(crystal.cell)))
    if volume < SMALLEST_VOLUME_PER_ATOM * crystal.num_atoms:
        raise BadCrystalError(
            f"{crystal.label}: the cell has no volume: {volume:.3g} cubic Angstrom for {crystal.num_atoms} atoms; "
            "is a lattice vector zero, or do all three lie in one plane?"
        )


def _check_elements(crystal: Crystal, known_elements: Collection[int] | None) -> None:
    numbers = np.unique(crystal.atomic_numbers)
    wrong = numbers[(numbers < 1) | (numbers > MAX_ATOMIC_NUMBER)]
    if len(wrong):
        raise BadCrystalError(f"{crystal.label}: atomic number {wrong[0]} is outside 1 to {MAX_ATOMIC_NUMBER}")
    if known_elements is None:
        return
    unknown = [SYMBOLS[z] for z in numbers.tolist() if z not in known_elements]
    if unknown:
        known = " ".join(SYMBOLS[z] for z in sorted(known_elements))
        subject = f"element {unknown[0]} is" if len(unknown) == 1 else f"elements {', '.join(unknown)} are"
        raise BadCrystalError(f"{crystal.label}: {subject} unknown to the model; it knows {known}")


def _name(crystal: Crystal, atom: int) -> str:
    z = int(crystal.atomic_numbers[atom])
    return f"{atom} ({SYMBOLS[z]})" if 1 <= z <= MAX_ATOMIC_NUMBER else str(atom)

# SPDX-License-Identifier: MIT
"""Crystals for the tests of neighbor lists, and ASE's lists in our order of bonds."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np
from ase.neighborlist import primitive_neighbor_list

# ASE's rounding and ours may differ at the cutoff: bonds this close to it are left out of comparisons (Angstrom).
TIE = 1e-9


class Case(NamedTuple):
    positions: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray
    cutoff: float


def cell_from_angles(lengths: np.ndarray, angles: np.ndarray) -> np.ndarray | None:
    """Make lattice vectors, as rows, of these lengths and angles (degrees); None if no such cell exists."""
    alpha, beta, gamma = np.cos(np.deg2rad(angles))
    sine = np.sqrt(1 - gamma**2)
    y = (alpha - beta * gamma) / sine
    squared = 1 - beta**2 - y**2
    if squared < 1e-3:
        return None
    return lengths[:, None] * np.array([[1, 0, 0], [gamma, sine, 0], [beta, y, np.sqrt(squared)]])


def random_case(rng: np.random.Generator, number: int, most_bonds: float = 1e5) -> Case:
    """Draw 1 to 40 atoms, some outside the cell, angles from 25 degrees, volumes from 5 A^3, cutoffs to 12 Angstrom."""
    cell = None
    while cell is None:
        cell = cell_from_angles(rng.uniform(1, 3, 3), rng.uniform(25, 155, 3))
    volume = 5 * 300 ** rng.random()
    cell *= np.cbrt(volume / np.linalg.det(cell))
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))  # reflections too: half of the cells are left-handed
    num_atoms = int(rng.integers(1, 41))
    longest = np.cbrt(most_bonds * volume / (4.2 * num_atoms**2))
    cutoff = min(rng.uniform(1, 12) if number % 4 else 12.0, longest)
    pbc = np.array(list(product([False, True], repeat=3))[number % 8])
    positions = rng.uniform(-2, 3, (num_atoms, 3)) @ cell @ rotation
    return Case(positions, cell @ rotation, pbc, float(cutoff))


def supercell(positions: np.ndarray, cell: np.ndarray, repeats: int) -> tuple[np.ndarray, np.ndarray]:
    """Repeat the crystal in all three directions."""
    steps = np.array(list(product(range(repeats), repeat=3)), dtype=float)
    return (positions[None] + (steps @ cell)[:, None]).reshape(-1, 3), cell * repeats


def sorted_bonds(i: np.ndarray, j: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Sort rows (i, j, S) in lexicographic order."""
    rows = np.column_stack([i, j, shifts]).astype(np.int64)
    return rows[np.lexsort(rows.T[::-1])]


def clear_bonds(bonds: np.ndarray, case: Case) -> np.ndarray:
    """Leave out bonds at the cutoff, up to rounding."""
    i, j, shifts = bonds[:, 0], bonds[:, 1], bonds[:, 2:]
    lengths = np.linalg.norm(case.positions[j] - case.positions[i] + shifts @ case.cell, axis=1)
    return bonds[np.abs(lengths - case.cutoff) >= TIE]


def ase_bonds(case: Case) -> np.ndarray:
    """Return ASE's neighbor list as sorted rows (i, j, S)."""
    i, j, shifts = primitive_neighbor_list("ijS", case.pbc, case.cell, case.positions, case.cutoff)
    return sorted_bonds(i, j, shifts)


def assert_same_bonds(ours: np.ndarray, theirs: np.ndarray, case: Case, label: object) -> None:
    """Check that both are equal row by row, order included, without ties at the cutoff."""
    ours, theirs = clear_bonds(ours, case), clear_bonds(theirs, case)
    if not np.array_equal(ours, theirs):
        missing = {tuple(row) for row in theirs.tolist()} - {tuple(row) for row in ours.tolist()}
        extra = {tuple(row) for row in ours.tolist()} - {tuple(row) for row in theirs.tolist()}
        raise AssertionError(
            f"{label}: {len(ours)} bonds instead of {len(theirs)}; missing {sorted(missing)[:3]}, "
            f"too many {sorted(extra)[:3]}; {case!r}"
        )

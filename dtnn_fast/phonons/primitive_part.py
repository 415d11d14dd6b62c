# SPDX-License-Identifier: MIT
"""The part of a supercell's force constants that the primitive cell has.

Force constants commute with the translations of the crystal, so they split into parts by wave vector. The part whose
displacements have the period of the primitive cell makes the ionic tensor. By central differences it depends on the
cell nevertheless: an atom that is displaced alone in a supercell is another displacement than that atom with all its
copies, and where the potential is not harmonic, so are the forces. Taken from the primitive cell, this part is the same
in all cells.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..crystals.crystal import Crystal
from ..crystals.lattice import reduce_cell
from .displacements import DisplacementPlan


class PrimitivePart(NamedTuple):
    """The primitive cell of a supercell.

    Args:
        crystal: the primitive cell, with the supercell's positions; without operations and labels.
        atoms: for each atom of the supercell, that of the primitive cell which it is a copy of. [N], int64
    """

    crystal: Crystal
    atoms: np.ndarray


def primitive_part(plan: DisplacementPlan) -> PrimitivePart | None:
    """Find the primitive cell by the operations of a plan that only translate; None where there are none.

    Args:
        plan: a plan of the supercell, with its operations.
    """
    translating = np.abs(plan.rotations - np.eye(3)).max((1, 2)) < 1e-6
    copies = plan.images[translating]
    if len(copies) < 2:
        return None
    given = plan.crystal
    of_first = given.positions[copies[:, 0]] - given.positions[0]
    # The translations are a group of len(copies) members, modulo the cell.
    wholes = np.rint(of_first @ np.linalg.inv(given.cell) * len(copies)).astype(np.int64)
    basis = _integer_basis(np.concatenate([wholes, len(copies) * np.eye(3, dtype=np.int64)]))
    kept, atoms = np.unique(copies.min(axis=0), return_inverse=True)
    cell = reduce_cell(basis / len(copies) @ given.cell)
    id = f"{given.id}, primitive"
    crystal = Crystal.make(id, given.atomic_numbers[kept], given.positions[kept], cell, source=given.source)
    return PrimitivePart(crystal, atoms.astype(np.int64))


def with_primitive_part(matrix: np.ndarray, primitive: np.ndarray, atoms: np.ndarray) -> np.ndarray:
    """Replace the part of a supercell's force constants whose displacements have the period of the primitive cell.

    With E_ia = 1 where atom i is a copy of atom a, else 0, and n copies of each, the part is E E^T Phi E E^T / n^2, and
    the force constants p of the primitive cell are to be E^T Phi E / n.

    Args:
        matrix: force constants of the supercell. [3 N, 3 N], eV/Angstrom^2
        primitive: those of the primitive cell. [3 M, 3 M], eV/Angstrom^2
        atoms: see `PrimitivePart`. [N]

    Returns:
        [3 N, 3 N], symmetric.
    """
    num_atoms, num_kept = len(atoms), len(primitive) // 3
    copies = num_atoms // num_kept
    blocks = matrix.reshape(num_atoms, 3, num_atoms, 3)
    expand = np.zeros((num_atoms, num_kept))
    expand[np.arange(num_atoms), atoms] = 1.0
    own = np.einsum("ia,ixjy,jb->axby", expand, blocks, expand, optimize=True) / copies
    change = (primitive.reshape(num_kept, 3, num_kept, 3) - own) / copies
    result: np.ndarray = (blocks + change[atoms][:, :, atoms]).reshape(matrix.shape)
    return result


def _integer_basis(rows: np.ndarray) -> np.ndarray:
    """Make a basis of the lattice that integer rows span, by Euclid's algorithm in each column. [3, 3], int64"""
    left = rows.copy()
    basis = []
    for column in range(3):
        while np.count_nonzero(left[:, column]) > 1:
            sizes = np.abs(left[:, column])
            pivot = int(np.where(sizes > 0, sizes, np.iinfo(np.int64).max).argmin())
            factors = left[:, column] // left[pivot, column]
            factors[pivot] = 0
            left = left - factors[:, None] * left[pivot]
        pivot = int(np.abs(left[:, column]).argmax())
        basis.append(left[pivot])
        left = np.delete(left, pivot, axis=0)
    return np.array(basis)

# SPDX-License-Identifier: MIT
"""Rotation between the frame of a crystal and that of a calculation of it, whose cell may be another one."""

from __future__ import annotations

import numpy as np

from ..crystals.crystal import Crystal
from ..crystals.lattice import reduce_cell
from ..errors import optional_import

# A relaxation moves atoms and lattice vectors by less; more is another cell, or another crystal.
_LARGEST_STRAIN = 0.15
_LARGEST_MOVE = 0.6  # Angstrom
_LARGEST_ANGLE = 10.0  # degrees
_BOND = 2.5  # Angstrom
_ROUNDING = 1e-6


def find_rotation(crystal: Crystal, computed: Crystal) -> np.ndarray | None:
    """Find the rotation from the frame of a crystal to that of its calculation.

    The cell of the calculation may be rotated, another cell of the same lattice, a supercell or a primitive cell, and
    relaxed; atoms may be in another order. The rotation is the orthogonal part of the map between the lattices (polar
    decomposition), so strain does not count. It may be improper; for the tensor this makes no difference. Where the
    cell is another one and the crystal is nearly of higher symmetry than it is, a relaxation that strains it more than
    it differs from that symmetry hides which axis is which.

    Args:
        crystal: the crystal.
        computed: the relaxed crystal of the calculation.

    Returns:
        Q such that a row vector v of the crystal is v Q in the calculation, and a tensor T is Q^T T Q. [3, 3], float64;
        None where the structures do not match.

    Raises:
        MissingPackageError: pymatgen is not installed, and the cells differ.
    """
    if crystal.formula != computed.formula:
        return None
    if crystal.num_atoms == computed.num_atoms and _have_same_places(crystal, computed):
        return _orthogonal_part(np.linalg.solve(crystal.cell, computed.cell))
    return _match(crystal, computed)


def to_frame_of_crystal(tensor: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Rotate a tensor of a calculation into the frame of the crystal. [3, 3], [3, 3] -> [3, 3]"""
    return rotation @ tensor @ rotation.T


def _have_same_places(crystal: Crystal, computed: Crystal) -> bool:
    """Tell whether the atoms have about the same fractional coordinates, in any order, and the cells the same shape."""
    deformation = np.linalg.solve(crystal.cell, computed.cell)
    if _strain(deformation) > _LARGEST_STRAIN:
        return False
    first = crystal.positions @ np.linalg.inv(crystal.cell)
    second = computed.positions @ np.linalg.inv(computed.cell)
    free = np.ones(len(second), dtype=bool)
    for z, place in zip(crystal.atomic_numbers.tolist(), first, strict=True):
        steps = second - place
        lengths = np.linalg.norm((steps - np.rint(steps)) @ computed.cell, axis=1)
        lengths[~free | (computed.atomic_numbers != z)] = np.inf
        nearest = int(lengths.argmin())
        if lengths[nearest] > _LARGEST_MOVE:
            return False
        free[nearest] = False
    return True


def _match(crystal: Crystal, computed: Crystal) -> np.ndarray | None:
    """Compare all maps between the two lattices; the one that moves atoms and strains the lattice least is right."""
    if crystal.num_atoms % computed.num_atoms and computed.num_atoms % crystal.num_atoms:
        return None
    is_larger = crystal.num_atoms >= computed.num_atoms
    large, small = (crystal, computed) if is_larger else (computed, crystal)
    copies = large.num_atoms // small.num_atoms
    core = optional_import("pymatgen.core", extra="io", purpose="compare the cells of a crystal and its calculation")
    large_cell, small_cell = reduce_cell(large.cell), reduce_cell(small.cell)
    maps = core.Lattice(small_cell).find_all_mappings(
        core.Lattice(large_cell), ltol=_LARGEST_STRAIN, atol=_LARGEST_ANGLE, skip_rotation_matrix=True
    )
    best: tuple[float, np.ndarray] | None = None
    for _, _, factors in maps:
        supercell = np.rint(factors).astype(np.int64)
        if abs(round(float(np.linalg.det(supercell)))) != copies:
            continue
        deformation = np.linalg.solve(supercell @ small_cell, large_cell)
        if _strain(deformation) > _LARGEST_STRAIN:
            continue
        move = _smallest_move(large, large_cell, _tile(small, small_cell, supercell))
        # A strain moves neighbors by about this, so both count in the same unit.
        stretch = np.linalg.norm(np.linalg.svd(deformation, compute_uv=False) - 1) * _BOND
        score = float(np.hypot(move, stretch))
        if move <= _LARGEST_MOVE and (best is None or score < best[0]):
            best = score, _orthogonal_part(deformation)
    if best is None:
        return None
    return best[1].T if is_larger else best[1]


def _tile(crystal: Crystal, cell: np.ndarray, supercell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return atomic numbers and fractional coordinates of a supercell, whose vectors are `supercell` @ `cell`."""
    inverse = np.linalg.inv(supercell)
    reach = np.abs(supercell).sum(axis=0)
    steps = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach.tolist()), indexing="ij"), axis=-1).reshape(
        -1, 3
    )
    places = steps @ inverse
    inside = ((places > -_ROUNDING) & (places < 1 - _ROUNDING)).all(axis=1)
    fractional = crystal.positions @ np.linalg.inv(cell) @ inverse
    tiled = (places[inside][:, None] + fractional).reshape(-1, 3)
    return np.tile(crystal.atomic_numbers, int(inside.sum())), tiled


def _smallest_move(large: Crystal, cell: np.ndarray, tiled: tuple[np.ndarray, np.ndarray]) -> float:
    """Return the RMS distance between the atoms of two crystals in one cell, for the best origin; infinite for none."""
    numbers, fractional = tiled
    target = large.positions @ np.linalg.inv(cell)
    elements, counts = np.unique(numbers, return_counts=True)
    rarest = elements[counts.argmin()]
    start = fractional[numbers == rarest][0]
    smallest = np.inf
    for origin in target[large.atomic_numbers == rarest]:
        steps = target[None] - (fractional + origin - start)[:, None]
        moves = (steps - np.rint(steps)) @ cell
        lengths = np.linalg.norm(moves, axis=-1)
        lengths[numbers[:, None] != large.atomic_numbers] = np.inf
        partner = lengths.argmin(axis=1)
        if len(set(partner.tolist())) == len(partner):
            of_atoms = moves[np.arange(len(partner)), partner]
            smallest = min(smallest, float(np.sqrt(of_atoms.var(axis=0).sum())))
    return smallest


def _strain(deformation: np.ndarray) -> float:
    """Return the largest relative change of a length."""
    return float(np.abs(np.linalg.svd(deformation, compute_uv=False) - 1).max())


def _orthogonal_part(deformation: np.ndarray) -> np.ndarray:
    u, _, v = np.linalg.svd(deformation)
    rotation: np.ndarray = u @ v
    return rotation

# SPDX-License-Identifier: MIT
"""Reference implementation of `symmetrise_crystals`: every operation on every atom, in NumPy."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..ops.symmetrise_crystals import SymmetrisedCrystals

# Two atoms up to the tolerance from their places, and the two that fix the translation.
_REACH = 4.0
_LARGEST_ENTRY = 10_000
_LARGEST_STRAIN = 0.2
_RESIDUAL = 1e-8
# In the order of `SYMMETRY_FAULTS`.
_BAD_IMAGE, _BAD_ROTATION, _ELEMENTS, _NOT_MAPPED, _NO_GROUP, _DISPLACEMENT, _STRAIN, _NOT_FINITE = range(1, 9)


class _FaultError(Exception):
    def __init__(self, number: int, detail: int) -> None:
        super().__init__(number, detail)
        self.row = (number, detail)


def symmetrise_crystals(
    positions: Tensor,
    cell: Tensor,
    ptr: Tensor,
    atomic_numbers: Tensor,
    rotations: Tensor,
    images: Tensor,
    operation_ptr: Tensor,
    tolerance: float,
) -> SymmetrisedCrystals:
    """Average over the operations; see `dtnn_fast.ops.symmetrise_crystals`."""
    if not (1e-9 <= tolerance < np.inf):
        raise RuntimeError(
            f"symmetrise_crystals: expected a finite `tolerance` of 1e-09 Angstrom or more, since positions are "
            f"rounded, got {tolerance}"
        )
    new_positions, new_cell = positions.detach().clone(), cell.detach().clone()
    atoms, shifts, rows = [], [], []
    moved = np.zeros((2, len(cell)))
    for b in range(len(cell)):
        place = slice(int(ptr[b]), int(ptr[b + 1]))
        own = slice(int(operation_ptr[b]), int(operation_ptr[b + 1]))
        num_atoms, num_operations = place.stop - place.start, own.stop - own.start
        mapping = np.zeros((num_operations, num_atoms), int), np.zeros((num_operations, num_atoms, 3), int)
        fault = (0, 0)
        try:
            one = _symmetrise(
                positions[place].detach().cpu().numpy(),
                cell[b].detach().cpu().numpy(),
                atomic_numbers[place].cpu().numpy(),
                rotations[own].cpu().numpy(),
                images[own].cpu().numpy(),
                tolerance,
            )
            new_positions[place], new_cell[b] = torch.from_numpy(one[0]), torch.from_numpy(one[1])
            mapping = one[2], one[3]
            moved[:, b] = one[4:]
        except _FaultError as error:
            fault = error.row
        rows.append(fault)
        atoms.append(mapping[0].reshape(-1))
        shifts.append(mapping[1].reshape(-1, 3))
    return SymmetrisedCrystals(
        new_positions,
        new_cell,
        rotations.new_tensor(np.concatenate([*atoms, np.zeros(0, int)])),
        rotations.new_tensor(np.concatenate([*shifts, np.zeros((0, 3), int)])),
        positions.new_tensor(moved[0]),
        positions.new_tensor(moved[1]),
        ptr.new_tensor(rows).reshape(-1, 2),
    )


def _symmetrise(
    positions: np.ndarray,
    cell: np.ndarray,
    elements: np.ndarray,
    rotations: np.ndarray,
    images: np.ndarray,
    tolerance: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float, float]:
    num_atoms, num_operations = len(positions), len(images)
    if num_operations == 1 and (rotations[0] == np.eye(3)).all() and images[0] == 0:
        return positions, cell, np.arange(num_atoms)[None], np.zeros((1, num_atoms, 3), int), 0.0, 0.0
    _check_arrays(positions, cell, elements, rotations, images)
    given = positions @ np.linalg.inv(cell)
    # Zero up to rounding stays near zero.
    given -= np.floor(given + 1e-9)
    metric = cell @ cell.T
    mean_metric = np.mean([w.T @ metric @ w for w in rotations], axis=0)
    inverse = np.linalg.inv(cell)
    squares, axes = np.linalg.eigh(inverse @ mean_metric @ inverse.T)
    if not (np.abs(squares - 1) < _LARGEST_STRAIN).all():
        raise _FaultError(_STRAIN, 0)
    new_cell = cell @ (axes * np.sqrt(squares)) @ axes.T
    strains = np.linalg.norm(new_cell - cell, axis=1)
    if (strains > tolerance).any():
        raise _FaultError(_STRAIN, int(np.argmax(strains > tolerance)))

    atoms, shifts = np.zeros((num_operations, num_atoms), int), np.zeros((num_operations, num_atoms, 3), int)
    translations, sums = np.zeros((num_operations, 3)), np.zeros((num_atoms, 3))
    for g, (w, image) in enumerate(zip(rotations, images, strict=True)):
        moved = given @ w.T + (given[image] - w @ given[0])
        offsets = moved[:, None] - given[None]
        offsets -= np.rint(offsets)
        distances = np.linalg.norm(offsets @ new_cell, axis=2)
        distances[elements[:, None] != elements] = np.inf
        atoms[g] = distances.argmin(1)
        if distances.min(1).max() > _REACH * tolerance or len(set(atoms[g].tolist())) < num_atoms:
            raise _FaultError(_NOT_MAPPED, g)
        shifts[g] = np.rint(moved - given[atoms[g]])
        translations[g] = (given[atoms[g]] + shifts[g] - given @ w.T).mean(0)
        sums[atoms[g]] += given @ w.T + translations[g] - shifts[g]
    _check_group(rotations, images, atoms)
    symmetric = sums / num_operations
    displacements = np.linalg.norm((symmetric - given) @ new_cell, axis=1)
    if displacements.max() > tolerance:
        raise _FaultError(_DISPLACEMENT, int(displacements.argmax()))
    for g, w in enumerate(rotations):
        residual = symmetric @ w.T + translations[g] - shifts[g] - symmetric[atoms[g]]
        if not np.linalg.norm(residual @ new_cell, axis=1).max() < _RESIDUAL:
            raise _FaultError(_NOT_MAPPED, g)
    return symmetric @ new_cell, new_cell, atoms, shifts, float(displacements.max()), float(strains.max())


def _check_arrays(
    positions: np.ndarray, cell: np.ndarray, elements: np.ndarray, rotations: np.ndarray, images: np.ndarray
) -> None:
    num_atoms = len(positions)
    if not (np.isfinite(positions).all() and np.isfinite(cell).all() and np.linalg.det(cell) != 0):
        raise _FaultError(_NOT_FINITE, 0)
    for g, (w, image) in enumerate(zip(rotations.astype(np.int64), images, strict=True)):
        if np.abs(w).max() > _LARGEST_ENTRY or abs(round(np.linalg.det(w))) != 1:
            raise _FaultError(_BAD_ROTATION, g)
        if not 0 <= image < num_atoms:
            raise _FaultError(_BAD_IMAGE, g)
        if elements[image] != elements[0]:
            raise _FaultError(_ELEMENTS, g)


def _check_group(rotations: np.ndarray, images: np.ndarray, atoms: np.ndarray) -> None:
    """Form all products, which must be among the operations."""
    keys = [(*w.reshape(-1).tolist(), int(image)) for w, image in zip(rotations, images, strict=True)]
    known = set(keys)
    if len(known) < len(keys) or (1, 0, 0, 0, 1, 0, 0, 0, 1, 0) not in known:
        raise _FaultError(_NO_GROUP, 0)
    for g, w in enumerate(rotations):
        for v, image in zip(rotations, images, strict=True):
            if (*(w @ v).reshape(-1).tolist(), int(atoms[g][image])) not in known:
                raise _FaultError(_NO_GROUP, g)

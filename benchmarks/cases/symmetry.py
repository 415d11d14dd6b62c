# SPDX-License-Identifier: MIT
"""Cases of symmetrise_crystals and reduce_bonds: labelled crystals with the operations that moyopy finds."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dtnn_fast import ops, reference
from dtnn_fast.crystals.operations import SymmetryOperations
from dtnn_fast.symmetry import with_operations

from . import traffic
from .case import FORWARD, Case, Inputs
from .crystals import BATCHES, LARGE, SIZES, batch

# The bundled model's cutoffs, and the tolerance of reduced graphs. Angstrom
CUTOFFS = (4.0, 5.0)
TOLERANCE = 0.05


def all_cases() -> list[Case]:
    """Return the cases of both operations on every size."""
    return [make(size) for make in (_symmetrise, _reduce) for size in SIZES]


@cache
def _operations(size: str) -> tuple[Tensor, Tensor, Tensor]:
    """rotations, images and operation_ptr; the displaced atoms of the large cell have no symmetry."""
    crystals = batch(size).crystals
    found = crystals if size == LARGE else with_operations(crystals)
    known = [crystal.operations or SymmetryOperations.identity() for crystal in found]
    rotations = torch.from_numpy(np.concatenate([one.rotations for one in known], dtype=np.int32))
    images = torch.from_numpy(np.concatenate([one.images for one in known], dtype=np.int64))
    return rotations, images, torch.tensor(np.cumsum([0, *map(len, known)]))


def _crystals(size: str, seed: int = 0) -> tuple[Any, ...]:
    """Arguments of symmetrise_crystals; another seed is another place of the same crystals."""
    crystals = batch(size)
    numbers = torch.tensor(np.concatenate([crystal.atomic_numbers for crystal in crystals.crystals]))
    rotations, images, operation_ptr = _operations(size)
    positions = crystals.positions + 0.01 * seed
    return positions, crystals.cell, crystals.ptr, numbers, rotations, images, operation_ptr, TOLERANCE


def _case(op: str, name: str, inputs: Any, stages: Any, size: str) -> Case:
    # Loops in Python take seconds on more than a few crystals.
    slow = None if size not in BATCHES[:2] else getattr(reference, op)
    return Case(op, name, inputs, getattr(ops, op), slow, stages, (FORWARD,), compiled=False)


def _on(device: torch.device, values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(x.to(device) if isinstance(x, Tensor) else x for x in values)


def _symmetrise(size: str) -> Case:
    def inputs(device: torch.device, seed: int) -> Inputs:
        return Inputs((), _on(device, _crystals(size, seed)))

    def stages(inputs: Inputs) -> tuple[traffic.Traffic]:
        positions, _, ptr, _, rotations, _, operation_ptr, _ = inputs.constants
        images = int((ptr.diff() * operation_ptr.diff()).sum())
        return traffic.symmetrise_crystals(len(positions), len(ptr) - 1, len(rotations), images)

    return _case("symmetrise_crystals", size, inputs, stages, size)


def _reduce(size: str) -> Case:
    def inputs(device: torch.device, seed: int) -> Inputs:
        given = _crystals(size, seed)
        crystals = ops.symmetrise_crystals(*given)
        ptr, rotations, operation_ptr = given[2], given[4], given[6]
        bonds = ops.neighbor_list(crystals.positions, crystals.cell, batch(size).pbc, CUTOFFS[-1], ptr, half=True)
        of_crystals, of_bonds = type(crystals)(*_on(device, crystals)), type(bonds)(*_on(device, bonds))
        others = _on(device, (ptr, rotations, operation_ptr))
        return Inputs((), (of_crystals, others[0], of_bonds, True, *others[1:], CUTOFFS))

    def stages(inputs: Inputs) -> tuple[traffic.Traffic]:
        crystals, ptr, bonds, _, rotations, _, _ = inputs.constants
        found = ops.reduce_bonds(*inputs.constants)
        counts = len(rotations), len(crystals.atoms), len(found.stored), found.pairs.shape[1]
        return traffic.reduce_bonds(len(crystals.positions), len(ptr) - 1, bonds.pairs.shape[1], *counts)

    return _case("reduce_bonds", f"{size}, {CUTOFFS[0]:g} and {CUTOFFS[1]:g} Angstrom", inputs, stages, size)

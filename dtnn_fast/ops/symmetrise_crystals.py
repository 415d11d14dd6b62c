# SPDX-License-Identifier: MIT
"""Make crystals exactly symmetric under given operations."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .._backend import reference_implementations, uses_reference
from ._registration import check_same_device, register_no_vmap


class SymmetrisedCrystals(NamedTuple):
    """Crystals that obey their operations to rounding, and where the operations take each atom.

    Args:
        positions: symmetric positions, in the cell. [N, 3], float64, Angstrom.
        cell: symmetric lattice vectors as rows. [B, 3, 3], float64, Angstrom.
        atoms: atom of the crystal, counted from 0, that each operation takes each atom to; for each crystal operation
            after operation. [M], int32, M the sum of operations times atoms over the crystals.
        shifts: lattice translations: W f_a + w = f_b + shift for fractional positions f. [M, 3], int32.
        displacement: largest distance of an atom from its symmetric position. [B], float64, Angstrom.
        strain: largest distance between the ends of a lattice vector and its symmetric form. [B], float64, Angstrom.
        faults: number of what is wrong with a crystal, and the operation, atom or lattice vector where; see
            `SYMMETRY_FAULTS`. (0, 0) where nothing is; other crystals keep positions and cell. [B, 2], int64.
    """

    positions: Tensor
    cell: Tensor
    atoms: Tensor
    shifts: Tensor
    displacement: Tensor
    strain: Tensor
    faults: Tensor


# By the first number of a row of `SymmetrisedCrystals.faults`; the second one takes the place of the braces.
SYMMETRY_FAULTS = (
    "nothing is wrong",
    "expected `images` among its atoms, operation {} has another",
    "expected `rotations` of determinant 1 or -1 with entries up to 10000, operation {} is another matrix",
    "expected `images` of the element of atom 0, operation {} takes atom 0 to another element",
    "expected `operations` that map the crystal onto itself, operation {} takes an atom to a place without one of its "
    "element",
    "expected `operations` that are a group, each once, operation {} does not fit the others",
    "expected atoms within `tolerance` of their symmetric positions, atom {} is not",
    "expected a cell within `tolerance` of its symmetric form, lattice vector {} is not",
    "expected finite `positions` and a `cell` with a volume",
)


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
    """Average positions and cells of crystals over their symmetry operations.

    The cell is stretched, not rotated: it changes by a symmetric matrix, the square root of what makes its metric the
    mean one. Operations that do not fit a crystal are reported in `faults`, and do not affect the other crystals. The
    kernel runs on the CPU, whatever the device of the tensors.

    Args:
        positions: Cartesian positions. [N, 3], float64, Angstrom.
        cell: lattice vectors as rows. [B, 3, 3], float64, Angstrom.
        ptr: crystal b owns the atoms ``ptr[b]:ptr[b + 1]``, at least one. [B+1], int64.
        atomic_numbers: [N], int64.
        rotations: matrices W of the operations f -> W f + w on fractional positions (columns). [G, 3, 3], int32.
        images: atom of the crystal, counted from 0, that the operation takes its first atom to, which gives w. [G],
            int64.
        operation_ptr: crystal b has the operations ``operation_ptr[b]:operation_ptr[b + 1]``, at least one: a group,
            up to lattice translations. [B+1], int64.
        tolerance: largest accepted distance of an atom from its symmetric position, and of the end of a lattice vector
            from its own. Angstrom, at least 1e-9.

    Returns:
        SymmetrisedCrystals. A crystal whose only operation is the identity keeps positions and cell to the bit.

    Raises:
        RuntimeError: a shape, dtype or device does not fit, a crystal has no atoms or no operations, or `tolerance` is
            below rounding.
    """
    if uses_reference():
        return reference_implementations().symmetrise_crystals(
            positions, cell, ptr, atomic_numbers, rotations, images, operation_ptr, tolerance
        )
    return SymmetrisedCrystals(
        *torch.ops.dtnn_fast.symmetrise_crystals(
            positions.detach(), cell.detach(), ptr, atomic_numbers, rotations, images, operation_ptr, tolerance
        )
    )


@torch.library.register_fake("dtnn_fast::symmetrise_crystals")
def _fake(
    positions: Tensor,
    cell: Tensor,
    ptr: Tensor,
    atomic_numbers: Tensor,
    rotations: Tensor,
    images: Tensor,
    operation_ptr: Tensor,
    tolerance: float,
) -> tuple[Tensor, ...]:
    check_same_device(
        "symmetrise_crystals",
        positions=positions,
        cell=cell,
        ptr=ptr,
        atomic_numbers=atomic_numbers,
        rotations=rotations,
        images=images,
        operation_ptr=operation_ptr,
    )
    num_crystals = cell.shape[0]
    num_rows = torch.library.get_ctx().new_dynamic_size()
    return (
        positions.new_empty(positions.shape),
        cell.new_empty(cell.shape),
        rotations.new_empty((num_rows,)),
        rotations.new_empty((num_rows, 3)),
        positions.new_empty((num_crystals,)),
        positions.new_empty((num_crystals,)),
        ptr.new_empty((num_crystals, 2)),
    )


register_no_vmap("symmetrise_crystals")

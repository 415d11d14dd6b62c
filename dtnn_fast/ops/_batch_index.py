# SPDX-License-Identifier: MIT
"""`ptr` from `batch_idx`, the index of each atom's crystal, as other packages describe a batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def ptr_of_batch(
    op: str, num_atoms: int, ptr: Tensor | None, batch_idx: Tensor | None, *per_crystal: Any
) -> Tensor | None:
    """Return `ptr`, made of `batch_idx` where that is given.

    On the CPU bad values raise an error here. On CUDA and under torch.compile nothing waits for the values: a
    `batch_idx` that is not sorted, or has an index out of range, makes a `ptr` that the operation rejects.

    Args:
        op: name of the operation, for messages.
        num_atoms: number of atoms N.
        ptr: as the operation got it; None if not given.
        batch_idx: index of each atom's crystal, from 0 and not descending. Crystals may be empty. [N], any integer
            dtype; None if not given.
        per_crystal: other arguments of the operation; the first that has a row or value for each crystal tells the
            number of crystals: [B, 3, 3], [B, 3] or [B]. Without one, it is the last index plus 1, for which the host
            waits.

    Returns:
        [B+1], int64; None for one crystal.

    Raises:
        RuntimeError: both are given, or shape, dtype, device or values of `batch_idx` do not fit.
    """
    if batch_idx is None:
        return ptr
    if ptr is not None:
        raise RuntimeError(f"{op}: expected `ptr` or `batch_idx`, got both")
    if batch_idx.dim() != 1 or batch_idx.shape[0] != num_atoms:
        raise RuntimeError(f"{op}: expected `batch_idx` of shape [{num_atoms}], got {list(batch_idx.shape)}")
    if batch_idx.is_floating_point() or batch_idx.is_complex() or batch_idx.dtype == torch.bool:
        raise RuntimeError(f"{op}: expected `batch_idx` of an integer dtype, got {batch_idx.dtype}")
    index = batch_idx.to(torch.int64).contiguous()
    num_crystals = _num_crystals(per_crystal)
    if num_crystals is None:
        num_crystals = int(index[-1]) + 1 if num_atoms else 0
    # Not by `diff`: a tensor of N - 1 values would make torch.export ask for at least three atoms.
    ascends = (index == index.cummax(0).values).all()
    if index.device.type == "cpu" and not torch.compiler.is_compiling():
        _check_values(op, index, num_crystals, bool(ascends))
    bounds = torch.searchsorted(index, torch.arange(num_crystals + 1, device=index.device))
    # No operation accepts a `ptr` that starts below 0.
    return torch.where(ascends, bounds, -1)


def _num_crystals(per_crystal: tuple[Any, ...]) -> int | None:
    for values, dimension in zip(per_crystal, (3, 2, 1), strict=False):
        if isinstance(values, Tensor) and values.dim() == dimension:
            return values.shape[0]
    return None


def _check_values(op: str, index: Tensor, num_crystals: int, ascends: bool) -> None:
    if not ascends:
        atom = int((index.diff() < 0).nonzero()[0]) + 1
        raise RuntimeError(
            f"{op}: expected `batch_idx` sorted by crystal, got {int(index[atom])} at atom {atom} behind "
            f"{int(index[atom - 1])}: sort the atoms by it first"
        )
    if len(index) and int(index[0]) < 0:
        raise RuntimeError(f"{op}: expected `batch_idx` of 0 or more, got {int(index[0])}")
    if len(index) and int(index[-1]) >= num_crystals:
        raise RuntimeError(
            f"{op}: expected `batch_idx` below {num_crystals}, the number of crystals, got {int(index[-1])}"
        )

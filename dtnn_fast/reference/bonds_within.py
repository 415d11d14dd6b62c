# SPDX-License-Identifier: MIT
"""Reference implementation of `bonds_within`: a mask over all bonds."""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops._batch_index import ptr_of_batch
from ..ops.bonds_within import BondsWithin
from .bond_vectors import bond_vectors
from .neighbor_list import list_cutoffs


def bonds_within(
    positions: Tensor,
    cell: Tensor,
    pairs: Tensor,
    shifts: Tensor,
    row_ptr: Tensor,
    cutoff: float | Tensor,
    ptr: Tensor | None = None,
    *,
    batch_idx: Tensor | None = None,
) -> BondsWithin:
    """Mask the bonds by their length; see `dtnn_fast.ops.bonds_within`."""
    ptr = ptr_of_batch("bonds_within", positions.shape[0], ptr, batch_idx, cell, None, cutoff)
    num_crystals = 1 if ptr is None else len(ptr) - 1
    cutoffs = cell.new_tensor(list_cutoffs("bonds_within", cutoff, num_crystals), dtype=torch.float64)
    center, neighbor = pairs
    crystal = (
        torch.zeros_like(center)
        if ptr is None
        else torch.searchsorted(ptr.contiguous(), center.contiguous(), right=True) - 1
    )
    is_self = (center == neighbor) & (shifts == 0).all(dim=1)
    inside = squared_lengths(positions, cell, pairs, shifts, ptr) < cutoffs[crystal] ** 2
    keep = inside | is_self
    before = torch.cat([keep.new_zeros(1, dtype=torch.int64), keep.cumsum(0)])
    kept = keep.nonzero().squeeze(1)
    return BondsWithin(kept, pairs[:, kept], shifts[kept], before[row_ptr])


def squared_lengths(positions: Tensor, cell: Tensor, pairs: Tensor, shifts: Tensor, ptr: Tensor | None) -> Tensor:
    """Compute ``|d|^2`` as it is compared with a cutoff: in float64, with this order of operations. [E]."""
    d = bond_vectors(positions.to(torch.float64), cell.to(torch.float64), pairs, shifts, ptr)
    dx, dy, dz = d.unbind(1)
    return (dx * dx + dy * dy) + dz * dz

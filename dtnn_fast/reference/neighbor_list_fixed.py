# SPDX-License-Identifier: MIT
"""Reference implementation of `neighbor_list_fixed`: the list, then padding."""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops._batch_index import ptr_of_batch
from ..ops.neighbor_list_fixed import COMPLETE, OVERFLOW, FixedNeighborList
from .neighbor_list import neighbor_list


def neighbor_list_fixed(
    positions: Tensor,
    cell: Tensor,
    pbc: Tensor,
    cutoff: float | Tensor,
    capacity: int,
    ptr: Tensor | None = None,
    half: bool = False,
    self_pairs: bool = False,
    *,
    batch_idx: Tensor | None = None,
) -> FixedNeighborList:
    """Copy the list into arrays of padding; see `dtnn_fast.ops.neighbor_list_fixed`."""
    ptr = ptr_of_batch("neighbor_list_fixed", positions.shape[0], ptr, batch_idx, cell, pbc, cutoff)
    bonds = neighbor_list(positions, cell, pbc, cutoff, ptr, half, self_pairs)
    num_bonds, num_atoms = bonds.pairs.shape[1], positions.shape[0]
    fits = num_bonds <= capacity
    pairs = bonds.pairs.new_full((2, capacity), num_atoms - 1)
    shifts = bonds.shifts.new_zeros(capacity, 3)
    row_ptr = torch.zeros_like(bonds.row_ptr)
    if fits:
        pairs[:, :num_bonds], shifts[:num_bonds], row_ptr[:] = bonds
    row_ptr[-1] = capacity
    status = COMPLETE if fits else OVERFLOW
    return FixedNeighborList(pairs, shifts, row_ptr, pairs.new_tensor([num_bonds]), pairs.new_tensor([status]))

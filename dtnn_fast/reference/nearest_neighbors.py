# SPDX-License-Identifier: MIT
"""Reference implementation of `nearest_neighbors`: rows of growing lists, sorted by length."""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops._batch_index import ptr_of_batch
from ..ops.nearest_neighbors import check_k, num_wanted
from ..ops.neighbor_list import NeighborList
from .bonds_within import squared_lengths
from .neighbor_list import neighbor_list


def nearest_neighbors(
    positions: Tensor,
    cell: Tensor,
    pbc: Tensor,
    k: int,
    ptr: Tensor | None = None,
    *,
    batch_idx: Tensor | None = None,
) -> NeighborList:
    """Search with a growing cutoff and sort each row by length; see `dtnn_fast.ops.nearest_neighbors`."""
    ptr = ptr_of_batch("nearest_neighbors", positions.shape[0], ptr, batch_idx, cell, pbc)
    check_k(k)
    bounds = torch.tensor([0, len(positions)], device=positions.device) if ptr is None else ptr
    cells, periodic = cell.expand(len(bounds) - 1, 3, 3), pbc.expand(len(bounds) - 1, 3)
    wanted = num_wanted(k, bounds.diff(), periodic)
    lists = []
    for b, (begin, end) in enumerate(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)):
        crystal = positions[begin:end], cells[b], periodic[b]
        cutoff = 1.0
        bonds = neighbor_list(*crystal, cutoff)
        while (bonds.row_ptr.diff() < wanted[b]).any():
            cutoff *= 1.5
            bonds = neighbor_list(*crystal, cutoff)
        squared = squared_lengths(*crystal[:2], bonds.pairs, bonds.shifts, None).tolist()
        rows = [range(*bonds.row_ptr[i : i + 2].tolist()) for i in range(end - begin)]
        # Bonds are sorted by j and S already, so their number decides between equal lengths.
        kept = [e for row in rows for e in sorted(sorted(row, key=lambda e: (squared[e], e))[:k])]
        lists.append((bonds.pairs[:, kept] + begin, bonds.shifts[kept]))
    row_ptr = torch.cat([bounds.new_zeros(1), torch.repeat_interleave(wanted, bounds.diff()).cumsum(0)])
    pairs = torch.cat([row_ptr.new_empty(2, 0), *(part for part, _ in lists)], dim=1)
    shifts = torch.cat([row_ptr.new_empty(0, 3, dtype=torch.int32), *(part for _, part in lists)])
    return NeighborList(pairs, shifts, row_ptr)

# SPDX-License-Identifier: MIT
"""Reference implementation of `bond_vectors`: indexing and the sum of lattice vectors."""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops._batch_index import ptr_of_batch
from ..ops.neighbor_list import NeighborOrder


def bond_vectors(
    positions: Tensor,
    cell: Tensor,
    pairs: Tensor,
    shifts: Tensor,
    ptr: Tensor | None = None,
    row_ptr: Tensor | None = None,
    by_neighbor: NeighborOrder | None = None,
    *,
    batch_idx: Tensor | None = None,
) -> Tensor:
    """Compute ``r_j - r_i + shift @ cell``; see `dtnn_fast.ops.bond_vectors`."""
    ptr = ptr_of_batch("bond_vectors", positions.shape[0], ptr, batch_idx, cell)
    center, neighbor = pairs.contiguous()
    crystal = torch.zeros_like(center) if ptr is None else torch.searchsorted(ptr.contiguous(), center, right=True) - 1
    cells = cell[crystal] if cell.dim() == 3 else cell.expand(len(center), 3, 3)
    a, b, c = cells.unbind(1)
    s0, s1, s2 = shifts.to(positions.dtype).unsqueeze(2).unbind(1)
    return (positions[neighbor] - positions[center]) + ((s0 * a + s1 * b) + s2 * c)

# SPDX-License-Identifier: MIT
"""Reference implementation of `nested_neighbor_lists`: a search for each cutoff."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ..ops._batch_index import ptr_of_batch
from ..ops.neighbor_list import NeighborList
from ..ops.nested_neighbor_lists import NestedNeighborLists, check_ascending
from .neighbor_list import neighbor_list


def nested_neighbor_lists(
    positions: Tensor,
    cell: Tensor,
    pbc: Tensor,
    cutoffs: Sequence[float | Tensor],
    ptr: Tensor | None = None,
    half: bool = False,
    self_pairs: bool = False,
    *,
    batch_idx: Tensor | None = None,
) -> NestedNeighborLists:
    """Search once for each cutoff and look up the bonds in the next list; see `dtnn_fast.ops.nested_neighbor_lists`."""
    ptr = ptr_of_batch("nested_neighbor_lists", positions.shape[0], ptr, batch_idx, cell, pbc, *cutoffs[-1:])
    check_ascending(cutoffs)
    lists = tuple(neighbor_list(positions, cell, pbc, cutoff, ptr, half, self_pairs) for cutoff in cutoffs)
    return NestedNeighborLists(lists, tuple(_positions_in(longer, bonds) for bonds, longer in pairwise(lists)))


def _positions_in(longer: NeighborList, bonds: NeighborList) -> Tensor:
    index = {bond: e for e, bond in enumerate(_rows(longer))}
    return bonds.pairs.new_tensor([index[bond] for bond in _rows(bonds)])


def _rows(bonds: NeighborList) -> list[tuple[int, ...]]:
    return [tuple(row) for row in torch.cat([bonds.pairs.T, bonds.shifts], dim=1).tolist()]

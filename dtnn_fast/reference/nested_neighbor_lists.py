# SPDX-License-Identifier: MIT
"""Twin of dtnn_fast.ops.nested_neighbor_lists: a search for each cutoff."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from .neighbor_list import NeighborList, neighbor_list


class NestedNeighborLists(NamedTuple):
    """Lists from short to long cutoffs, each inside the next; see `dtnn_fast.ops.nested_neighbor_lists`."""

    lists: tuple[NeighborList, ...]
    inner: tuple[Tensor, ...]


def nested_neighbor_lists(
    positions: Tensor,
    cell: Tensor,
    pbc: Tensor,
    cutoffs: Sequence[float | Tensor],
    ptr: Tensor | None = None,
    half: bool = False,
    self_pairs: bool = False,
) -> NestedNeighborLists:
    """One list for each cutoff, and where its bonds are in the next; see `dtnn_fast.ops.nested_neighbor_lists`."""
    check_ascending(cutoffs)
    lists = tuple(neighbor_list(positions, cell, pbc, cutoff, ptr, half, self_pairs) for cutoff in cutoffs)
    return NestedNeighborLists(lists, tuple(_positions_in(longer, bonds) for bonds, longer in pairwise(lists)))


def check_ascending(cutoffs: Sequence[float | Tensor]) -> None:
    """Reject anything but one or more cutoffs from short to long."""
    if not cutoffs:
        raise ValueError("nested_neighbor_lists: expected at least one cutoff, got none")
    for shorter, longer in pairwise(cutoffs):
        if bool(torch.as_tensor(shorter > longer).any()):
            raise ValueError(f"nested_neighbor_lists: expected `cutoffs` from short to long, got {list(cutoffs)}")


def _positions_in(longer: NeighborList, bonds: NeighborList) -> Tensor:
    index = {bond: e for e, bond in enumerate(_rows(longer))}
    return torch.tensor([index[bond] for bond in _rows(bonds)], dtype=torch.int64)


def _rows(bonds: NeighborList) -> list[tuple[int, ...]]:
    return [tuple(row) for row in torch.cat([bonds.pairs.T, bonds.shifts], dim=1).tolist()]

# SPDX-License-Identifier: MIT
"""Neighbor lists for several cutoffs from one search."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor

from .._backend import reference_implementations, uses_reference
from ._batch_index import ptr_of_batch
from .bonds_within import bonds_within
from .neighbor_list import NeighborList, neighbor_list


class NestedNeighborLists(NamedTuple):
    """Neighbor lists from short to long cutoffs, each contained in the next.

    Args:
        lists: one list for each cutoff.
        inner: ``inner[k]`` are the indices of the bonds of ``lists[k]`` in ``lists[k + 1]``. [E of list k], int64.
    """

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
    *,
    batch_idx: Tensor | None = None,
) -> NestedNeighborLists:
    """Make one neighbor list for each cutoff: search at the longest one, then select the shorter lists from it.

    Each list is equal to that of `neighbor_list` for its cutoff, to the bit.

    Args:
        positions: Cartesian positions. [N, 3], float32 or float64, Angstrom.
        cell: lattice vectors as rows, [B, 3, 3], or [3, 3] for all crystals; dtype of `positions`, Angstrom.
        pbc: periodic directions, [B, 3], or [3] for all crystals. bool.
        cutoffs: at least one, from short to long; each a float, or a tensor with one value per crystal, [B], Angstrom.
        ptr: crystal b owns the atoms ``ptr[b]:ptr[b + 1]``; None for one crystal. [B+1], int64.
        half: as in `neighbor_list`.
        self_pairs: as in `neighbor_list`.
        batch_idx: as in `neighbor_list`. [N], any integer dtype.

    Returns:
        NestedNeighborLists with `lists`, one `NeighborList` for each cutoff, and `inner`, the indices of the bonds of
        each list in the next one.

    Raises:
        ValueError: `cutoffs` is empty or not from short to long.
        RuntimeError: as in `neighbor_list`.

    Example:
        >>> positions, cell = torch.zeros(1, 3), torch.diag(torch.tensor([1.0, 2.0, 3.0]))
        >>> pbc = torch.tensor([True, True, True])
        >>> nested = nested_neighbor_lists(positions, cell, pbc, (1.5, 2.1))
        >>> [bonds.pairs.shape[1] for bonds in nested.lists], nested.inner[0].tolist()
        ([2, 6], [1, 4])
    """
    ptr = ptr_of_batch("nested_neighbor_lists", positions.shape[0], ptr, batch_idx, cell, pbc, *cutoffs[-1:])
    if uses_reference():
        return reference_implementations().nested_neighbor_lists(positions, cell, pbc, cutoffs, ptr, half, self_pairs)
    check_ascending(cutoffs)
    lists = [neighbor_list(positions, cell, pbc, cutoffs[-1], ptr, half, self_pairs)]
    inner: list[Tensor] = []
    for cutoff in reversed(cutoffs[:-1]):
        kept, *shorter = bonds_within(positions, cell, *lists[-1], cutoff, ptr)
        lists.append(NeighborList(*shorter))
        inner.append(kept)
    return NestedNeighborLists(tuple(reversed(lists)), tuple(reversed(inner)))


def check_ascending(cutoffs: Sequence[float | Tensor]) -> None:
    """Reject cutoffs that are empty or not from short to long."""
    if not cutoffs:
        raise ValueError("nested_neighbor_lists: expected at least one cutoff, got none")
    for shorter, longer in pairwise(cutoffs):
        descends = shorter > longer  # a bool for two numbers, which torch.compile must not see as a tensor
        if descends.any() if isinstance(descends, Tensor) else descends:
            raise ValueError(f"nested_neighbor_lists: expected `cutoffs` from short to long, got {list(cutoffs)}")

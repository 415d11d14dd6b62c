# SPDX-License-Identifier: MIT
"""Selection of the bonds shorter than a cutoff from a longer list."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .._backend import reference_implementations, uses_reference
from ._batch_index import ptr_of_batch
from ._registration import check_same_device, register_no_vmap
from .neighbor_list import split_cutoff


class BondsWithin(NamedTuple):
    """The selected E' bonds as a neighbor list, and their indices in the longer list.

    Args:
        kept: indices of the bonds in the longer list. [E'], int64.
        pairs: centers and neighbors. [2, E'], int64.
        shifts: lattice translations of the neighbors. [E', 3], int32.
        row_ptr: the selected bonds of atom i are ``row_ptr[i]:row_ptr[i + 1]``. [N+1], int64.
    """

    kept: Tensor
    pairs: Tensor
    shifts: Tensor
    row_ptr: Tensor


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
    """Select from a list the bonds that are shorter than a cutoff at these positions, in their order.

    Lengths are compared as in `neighbor_list`. When the list holds every bond with ``|d| < cutoff``, the result is that
    of a new search, to the bit, at a fraction of its cost. Self pairs (i, i, S = 0) are always kept.

    Args:
        positions: Cartesian positions, which may differ from the positions of the search. [N, 3], float32 or float64,
            Angstrom.
        cell: lattice vectors as rows, [B, 3, 3], or [3, 3] for all crystals; dtype of `positions`, Angstrom.
        pairs: centers and neighbors of the list, full or half. [2, E], int64.
        shifts: lattice translations of the neighbors. [E, 3], int32.
        row_ptr: the bonds of atom i are ``row_ptr[i]:row_ptr[i + 1]``. [N+1], int64.
        cutoff: length of the longest bonds, exclusive. float, or a tensor with one value per crystal, [B], float32
            or float64, Angstrom.
        ptr: crystal b owns the atoms ``ptr[b]:ptr[b + 1]``; None for one crystal. [B+1], int64.
        batch_idx: as in `neighbor_list`. [N], any integer dtype.

    Returns:
        BondsWithin with `kept` [E'], the indices of these bonds in the list, and the new list: `pairs` [2, E'],
        `shifts` [E', 3], `row_ptr` [N+1].

    Raises:
        RuntimeError: a shape, dtype or device does not fit; a position, the cell or a cutoff is not finite; a cutoff is
            negative; `pairs` disagrees with `row_ptr` or `ptr`.

    Example:
        >>> positions, cell = torch.zeros(1, 3), torch.diag(torch.tensor([1.0, 2.0, 3.0]))
        >>> pbc = torch.tensor([True, True, True])
        >>> bonds = neighbor_list(positions, cell, pbc, cutoff=2.1)
        >>> bonds_within(positions, cell, *bonds, cutoff=1.5).shifts.tolist()
        [[-1, 0, 0], [1, 0, 0]]
    """
    ptr = ptr_of_batch("bonds_within", positions.shape[0], ptr, batch_idx, cell, None, cutoff)
    if uses_reference():
        return reference_implementations().bonds_within(positions, cell, pairs, shifts, row_ptr, cutoff, ptr)
    cutoff, per_crystal_cutoffs = split_cutoff("bonds_within", cutoff)
    return BondsWithin(
        *torch.ops.dtnn_fast.bonds_within(positions, cell, ptr, pairs, shifts, row_ptr, cutoff, per_crystal_cutoffs)
    )


@torch.library.register_fake("dtnn_fast::bonds_within")
def _fake(
    positions: Tensor,
    cell: Tensor,
    ptr: Tensor | None,
    pairs: Tensor,
    shifts: Tensor,
    row_ptr: Tensor,
    cutoff: float,
    cutoffs: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    check_same_device(
        "bonds_within",
        positions=positions,
        cell=cell,
        ptr=ptr,
        pairs=pairs,
        shifts=shifts,
        row_ptr=row_ptr,
        cutoff=cutoffs,
    )
    num_kept = torch.library.get_ctx().new_dynamic_size()
    return (
        pairs.new_empty((num_kept,)),
        pairs.new_empty((2, num_kept)),
        shifts.new_empty((num_kept, 3)),
        row_ptr.new_empty(row_ptr.shape),
    )


register_no_vmap("bonds_within")

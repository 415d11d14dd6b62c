# SPDX-License-Identifier: MIT
"""Each bond's reverse, and what full and half lists have in common."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import reference
from .._backend import uses_reference
from ..reference.bond_reverses import FullToHalf
from ..reference.neighbor_list import NeighborList
from ._registration import check_same_device, register_no_vmap


def bond_reverses(pairs: Tensor, shifts: Tensor, row_ptr: Tensor) -> Tensor:
    """Find for each bond (i, j, S) of a full list the index of its reverse, (j, i, -S).

    ``reverses[reverses[e]] == e``; a self pair (i, i, S = 0) is its own reverse.

    Args:
        pairs: centers and neighbors of a full list. [2, E], int64.
        shifts: its lattice translations. [E, 3], int32.
        row_ptr: the bonds of atom i are ``row_ptr[i]:row_ptr[i + 1]``. [N+1], int64.

    Returns:
        The index of each bond's reverse. [E], int64.

    Raises:
        RuntimeError: a shape, dtype or device does not fit; the bonds are not sorted as by `neighbor_list`; a bond, the
            first of which is named, has no reverse.

    Example:
        >>> shifts = torch.tensor([[-1, 0, 0], [1, 0, 0]], dtype=torch.int32)
        >>> bond_reverses(torch.tensor([[0, 0], [0, 0]]), shifts, torch.tensor([0, 2]))
        tensor([1, 0])
    """
    if uses_reference():
        return reference.bond_reverses(pairs, shifts, row_ptr)
    return torch.ops.dtnn_fast.bond_reverses(pairs, shifts, row_ptr)


def full_to_half(pairs: Tensor, shifts: Tensor, row_ptr: Tensor) -> FullToHalf:
    """Make the half list of a full list, and say for each directed bond which bond of the half list it is.

    So that values per bond can be stored once and read from both ends. With `values` of the half list, those of the
    full list are ``values[half_index]`` where they do not depend on the direction of a bond, and where they change sign
    with it, as bond vectors do, ``direction[:, None] * values[half_index]``.

    Args:
        pairs: centers and neighbors of a full list. [2, E], int64.
        shifts: its lattice translations. [E, 3], int32.
        row_ptr: the bonds of atom i are ``row_ptr[i]:row_ptr[i + 1]``. [N+1], int64.

    Returns:
        FullToHalf with `half`, the `NeighborList` that ``neighbor_list(..., half=True)`` gives; `kept`, the indices of
        its bonds in the full list, [E'], int64; `half_index`, the bond of the half list that each bond of the full list
        is, [E], int64; `direction`, 1 where both have the same direction and -1 where they are opposite, [E], int8.

    Raises:
        RuntimeError: as in `bond_reverses`.

    Example:
        >>> shifts = torch.tensor([[-1, 0, 0], [1, 0, 0]], dtype=torch.int32)
        >>> mapping = full_to_half(torch.tensor([[0, 0], [0, 0]]), shifts, torch.tensor([0, 2]))
        >>> mapping.half.shifts.tolist(), mapping.half_index.tolist(), mapping.direction.tolist()
        ([[1, 0, 0]], [0, 0], [-1, 1])
    """
    if uses_reference():
        return reference.full_to_half(pairs, shifts, row_ptr)
    reverses = bond_reverses(pairs, shifts, row_ptr)
    # Sorted bonds: of the two directions, the half list has the one with i < j, and for i = j, where the positive
    # shifts stand behind the negative ones, the later one.
    center, neighbor = pairs
    bond = torch.arange(pairs.shape[1], device=pairs.device)
    keep = (center < neighbor) | ((center == neighbor) & (bond >= reverses))
    before = torch.cat([keep.new_zeros(1, dtype=torch.int64), keep.cumsum(0)])
    kept = keep.nonzero().squeeze(1)
    half = NeighborList(pairs.index_select(1, kept), shifts.index_select(0, kept), before[row_ptr])
    half_index = before[torch.where(keep, bond, reverses)]
    return FullToHalf(half, kept, half_index, torch.where(keep, 1, -1).to(torch.int8))


@torch.library.register_fake("dtnn_fast::bond_reverses")
def _fake(pairs: Tensor, shifts: Tensor, row_ptr: Tensor) -> Tensor:
    check_same_device("bond_reverses", pairs=pairs, shifts=shifts, row_ptr=row_ptr)
    return pairs.new_empty((pairs.shape[1],))


register_no_vmap("bond_reverses")

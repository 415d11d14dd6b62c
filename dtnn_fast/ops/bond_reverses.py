# SPDX-License-Identifier: MIT
"""The reverse of each bond, and the map from a full to a half list."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .._backend import reference_implementations, uses_reference
from ._registration import check_same_device, register_no_vmap
from .neighbor_list import NeighborList


class FullToHalf(NamedTuple):
    """The half list of a full list, and the map between them.

    Args:
        half: the list that ``neighbor_list(..., half=True)`` gives, with E' bonds.
        kept: indices of its bonds in the full list. [E'], int64.
        half_index: for each bond of the full list the index of its bond in the half list. [E], int64.
        direction: 1 where both have the same direction, -1 where they are opposite. [E], int8.
    """

    half: NeighborList
    kept: Tensor
    half_index: Tensor
    direction: Tensor


def bond_reverses(pairs: Tensor, shifts: Tensor, row_ptr: Tensor) -> Tensor:
    """Find for each bond (i, j, S) of a full list the index of its reverse, (j, i, -S).

    ``reverses[reverses[e]] == e``; a self pair (i, i, S = 0) is its own reverse.

    Args:
        pairs: centers and neighbors of a full list. [2, E], int64.
        shifts: lattice translations of the neighbors. [E, 3], int32.
        row_ptr: the bonds of atom i are ``row_ptr[i]:row_ptr[i + 1]``. [N+1], int64.

    Returns:
        The index of each bond's reverse. [E], int64.

    Raises:
        RuntimeError: a shape, dtype or device does not fit; the bonds are not sorted as by `neighbor_list`; a bond has
            no reverse (the message names the first).

    Example:
        >>> shifts = torch.tensor([[-1, 0, 0], [1, 0, 0]], dtype=torch.int32)
        >>> bond_reverses(torch.tensor([[0, 0], [0, 0]]), shifts, torch.tensor([0, 2]))
        tensor([1, 0])
    """
    if uses_reference():
        return reference_implementations().bond_reverses(pairs, shifts, row_ptr)
    return torch.ops.dtnn_fast.bond_reverses(pairs, shifts, row_ptr)


def full_to_half(pairs: Tensor, shifts: Tensor, row_ptr: Tensor) -> FullToHalf:
    """Make the half list of a full list, and map each bond of the full list to its bond in the half list.

    With it, values per bond can be stored once and read from both ends. From `values` of the half list, the values of
    the full list are ``values[half_index]`` if they do not depend on the direction of a bond, and
    ``direction[:, None] * values[half_index]`` if they change sign with it, as bond vectors do.

    Args:
        pairs: centers and neighbors of a full list. [2, E], int64.
        shifts: lattice translations of the neighbors. [E, 3], int32.
        row_ptr: the bonds of atom i are ``row_ptr[i]:row_ptr[i + 1]``. [N+1], int64.

    Returns:
        FullToHalf with the list `half`, the indices `kept` [E'], and `half_index` [E] and `direction` [E] of the map.

    Raises:
        RuntimeError: as in `bond_reverses`.

    Example:
        >>> shifts = torch.tensor([[-1, 0, 0], [1, 0, 0]], dtype=torch.int32)
        >>> mapping = full_to_half(torch.tensor([[0, 0], [0, 0]]), shifts, torch.tensor([0, 2]))
        >>> mapping.half.shifts.tolist(), mapping.half_index.tolist(), mapping.direction.tolist()
        ([[1, 0, 0]], [0, 0], [-1, 1])
    """
    if uses_reference():
        return reference_implementations().full_to_half(pairs, shifts, row_ptr)
    reverses = bond_reverses(pairs, shifts, row_ptr)
    # The half list has the direction with i < j. For i = j it has the later one, since bonds are sorted and positive
    # shifts come after negative ones.
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

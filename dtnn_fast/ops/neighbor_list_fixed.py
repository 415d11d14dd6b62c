# SPDX-License-Identifier: MIT
"""Neighbor lists of a fixed size, for CUDA graphs."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import reference
from .._backend import uses_reference
from ..reference.neighbor_list_fixed import FixedNeighborList
from ._registration import check_same_device, register_vmap
from .neighbor_list import split_cutoff


def neighbor_list_fixed(
    positions: Tensor,
    cell: Tensor,
    pbc: Tensor,
    cutoff: float | Tensor,
    capacity: int,
    ptr: Tensor | None = None,
    half: bool = False,
    self_pairs: bool = False,
) -> FixedNeighborList:
    """Find all bonds as `neighbor_list` does, in arrays whose size does not depend on the positions.

    On CUDA nothing waits for the device, so the call can be part of a CUDA graph. The places that are left over hold
    padding: bonds of the last atom to itself with shift 0, at the end of that atom's row. So every operation on values
    of bonds and atoms takes the list, and padding reaches nothing but the last atom: make it a spare one, in a crystal
    of its own at the end of the batch, or ignore what bonds from ``num_bonds`` on contribute. (`bond_reverses` wants a
    list without repeats, hence without padding.)

    Args:
        positions: as in `neighbor_list`; at least one atom, unless `capacity` is 0. [N, 3], Angstrom.
        cell: as in `neighbor_list`. [B, 3, 3] or [3, 3], Angstrom.
        pbc: as in `neighbor_list`. [B, 3] or [3], bool.
        cutoff: as in `neighbor_list`. float, or [B], Angstrom.
        capacity: the number of bonds that there is room for.
        ptr: as in `neighbor_list`. [B+1], int64.
        half: as in `neighbor_list`.
        self_pairs: as in `neighbor_list`.

    Returns:
        FixedNeighborList with `pairs` [2, capacity], `shifts` [capacity, 3] and `row_ptr` [N+1], as in `neighbor_list`,
        where ``row_ptr[N] == capacity``; `num_bonds`, how many of the bonds are real, [1], int64; `status`, [1], int64:
        0 when the list is complete; 1 when `capacity` is too small, in which case all is padding and `num_bonds` is the
        capacity that is needed; 2, on CUDA, when a value is bad, in which case all is padding, and `neighbor_list`
        with the same arguments raises what is wrong.

    Raises:
        RuntimeError: a shape, dtype or device does not fit; `capacity` is negative, or positive without atoms; on the
            CPU also what `neighbor_list` raises for bad values.

    Example:
        >>> positions, cell = torch.zeros(1, 3), torch.diag(torch.tensor([1.0, 2.0, 3.0]))
        >>> fixed = neighbor_list_fixed(positions, cell, torch.tensor([True] * 3), cutoff=1.5, capacity=4)
        >>> fixed.shifts.tolist(), fixed.num_bonds.item(), fixed.status.item()
        ([[-1, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]], 2, 0)
    """
    if uses_reference():
        return reference.neighbor_list_fixed(positions, cell, pbc, cutoff, capacity, ptr, half, self_pairs)
    one, each = split_cutoff("neighbor_list_fixed", cutoff)
    return FixedNeighborList(
        *torch.ops.dtnn_fast.neighbor_list_fixed(positions, cell, pbc, ptr, one, each, half, self_pairs, capacity)
    )


@torch.library.register_fake("dtnn_fast::neighbor_list_fixed")
def _fake(
    positions: Tensor,
    cell: Tensor,
    pbc: Tensor,
    ptr: Tensor | None,
    cutoff: float,
    cutoffs: Tensor | None,
    half: bool,
    self_pairs: bool,
    capacity: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    check_same_device("neighbor_list_fixed", positions=positions, cell=cell, pbc=pbc, ptr=ptr, cutoff=cutoffs)
    return (
        positions.new_empty((2, capacity), dtype=torch.int64),
        positions.new_empty((capacity, 3), dtype=torch.int32),
        positions.new_empty((positions.shape[0] + 1,), dtype=torch.int64),
        positions.new_empty((1,), dtype=torch.int64),
        positions.new_empty((1,), dtype=torch.int64),
    )


register_vmap("neighbor_list_fixed")

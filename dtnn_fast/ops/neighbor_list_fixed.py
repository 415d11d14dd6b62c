# SPDX-License-Identifier: MIT
"""Neighbor lists of a fixed size, for CUDA graphs."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .._backend import reference_implementations, uses_reference
from ._batch_index import ptr_of_batch
from ._registration import check_same_device, register_vmap
from .neighbor_list import empty_list, split_cutoff

COMPLETE, OVERFLOW, BAD_VALUES = range(3)  # values of `FixedNeighborList.status`


class FixedNeighborList(NamedTuple):
    """A neighbor list padded to a fixed number of bonds. Unless `status` is 0, all bonds are padding.

    Args:
        pairs: centers and neighbors. [2, capacity], int64.
        shifts: lattice translations of the neighbors. [capacity, 3], int32.
        row_ptr: the bonds of atom i are ``row_ptr[i]:row_ptr[i + 1]``, and ``row_ptr[N] == capacity``. [N+1], int64.
        num_bonds: number of bonds before the padding; with status 1 the capacity that is needed. [1], int64.
        status: 0 for a complete list; 1 for a `capacity` that is too small; 2, on CUDA, for a bad value, for which
            `neighbor_list` with the same arguments raises the error. [1], int64.
    """

    pairs: Tensor
    shifts: Tensor
    row_ptr: Tensor
    num_bonds: Tensor
    status: Tensor

    @property
    def edge_index(self) -> Tensor:
        """`pairs` under the name that PyTorch Geometric uses; row 0 has the centers, by which the bonds are sorted."""
        return self.pairs

    @property
    def neighbor_ptr(self) -> Tensor:
        """`row_ptr` under the name that nvalchemi-toolkit-ops uses."""
        return self.row_ptr


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
    """Find all bonds as `neighbor_list` does, in arrays whose size does not depend on the positions.

    On CUDA nothing waits for the device, so the call can be part of a CUDA graph. The rest of the arrays is padding:
    bonds of the last atom to itself with shift 0, at the end of that atom's row. Every operation on values of bonds and
    atoms accepts such a list, and the padding affects only the last atom. Make it a spare atom, in a separate crystal
    at the end of the batch, or ignore the contributions of the bonds from ``num_bonds`` on. (`bond_reverses` needs a
    list without duplicates, hence without padding.)

    Args:
        positions: as in `neighbor_list`; at least one atom, unless `capacity` is 0. [N, 3], Angstrom.
        cell: as in `neighbor_list`. [B, 3, 3] or [3, 3], Angstrom.
        pbc: as in `neighbor_list`. [B, 3] or [3], bool.
        cutoff: as in `neighbor_list`. float, or [B], Angstrom.
        capacity: number of bonds that fit into the arrays.
        ptr: as in `neighbor_list`. [B+1], int64.
        half: as in `neighbor_list`.
        self_pairs: as in `neighbor_list`.
        batch_idx: as in `neighbor_list`. [N], any integer dtype.

    Returns:
        FixedNeighborList with `pairs` [2, capacity], `shifts` [capacity, 3], `row_ptr` [N+1], `num_bonds` [1] and
        `status` [1]. Unless `status` is 0, all bonds are padding.

    Raises:
        RuntimeError: a shape, dtype or device does not fit; `capacity` is negative, or positive without atoms; on the
            CPU also what `neighbor_list` raises for bad values.

    Example:
        >>> positions, cell = torch.zeros(1, 3), torch.diag(torch.tensor([1.0, 2.0, 3.0]))
        >>> fixed = neighbor_list_fixed(positions, cell, torch.tensor([True] * 3), cutoff=1.5, capacity=4)
        >>> fixed.shifts.tolist(), fixed.num_bonds.item(), fixed.status.item()
        ([[-1, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]], 2, 0)
    """
    ptr = ptr_of_batch("neighbor_list_fixed", positions.shape[0], ptr, batch_idx, cell, pbc, cutoff)
    if uses_reference():
        return reference_implementations().neighbor_list_fixed(
            positions, cell, pbc, cutoff, capacity, ptr, half, self_pairs
        )
    cutoff, per_crystal_cutoffs = split_cutoff("neighbor_list_fixed", cutoff)
    return FixedNeighborList(
        *torch.ops.dtnn_fast.neighbor_list_fixed(
            positions, cell, pbc, ptr, cutoff, per_crystal_cutoffs, half, self_pairs, capacity
        )
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
    num_bonds, status = (positions.new_empty((1,), dtype=torch.int64) for _ in range(2))
    return *empty_list(positions, capacity), num_bonds, status


register_vmap("neighbor_list_fixed")

# SPDX-License-Identifier: MIT
"""Periodic neighbor lists, and the order of their bonds by neighbor."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._backend import reference_implementations, uses_reference
from ._batch_index import ptr_of_batch
from ._registration import check_same_device, register_no_vmap


class NeighborList(NamedTuple):
    """Bonds, sorted by center, then neighbor, then shift.

    Args:
        pairs: centers and neighbors. [2, E], int64.
        shifts: lattice translations S of the neighbors, ``d = r_j - r_i + S @ cell``. [E, 3], int32.
        row_ptr: the bonds of atom i are ``row_ptr[i]:row_ptr[i + 1]``. [N+1], int64.
    """

    pairs: Tensor
    shifts: Tensor
    row_ptr: Tensor

    @property
    def edge_index(self) -> Tensor:
        """`pairs` under the name that PyTorch Geometric uses; row 0 has the centers, by which the bonds are sorted."""
        return self.pairs

    @property
    def neighbor_ptr(self) -> Tensor:
        """`row_ptr` under the name that nvalchemi-toolkit-ops uses."""
        return self.row_ptr


class NeighborOrder(NamedTuple):
    """The bonds of a list in the order of their neighbors.

    Args:
        order: indices of the bonds, sorted by neighbor and then as stored. [E], int64.
        row_ptr: the bonds with neighbor n are ``order[row_ptr[n]:row_ptr[n + 1]]``. [N+1], int64.
    """

    order: Tensor
    row_ptr: Tensor


def neighbor_order(pairs: Tensor, num_atoms: int) -> NeighborOrder:
    """Sort the bonds by neighbor, keeping the stored order among equals.

    Args:
        pairs: centers and neighbors. [2, E], int64.
        num_atoms: number of atoms N.

    Returns:
        NeighborOrder with `order` [E] and `row_ptr` [N+1].

    Raises:
        ValueError: `pairs` is not of shape [2, E] and dtype int64.

    Example:
        >>> neighbor_order(torch.tensor([[0, 0, 1], [1, 0, 0]]), 2).order
        tensor([1, 2, 0])
    """
    if pairs.dim() != 2 or pairs.shape[0] != 2 or pairs.dtype != torch.int64:
        raise ValueError(
            f"neighbor_order: expected `pairs` of shape [2, E] and dtype int64, got {list(pairs.shape)} {pairs.dtype}"
        )
    neighbors, order = torch.sort(pairs[1], stable=True)
    atoms = torch.arange(num_atoms + 1, device=pairs.device)
    return NeighborOrder(order, torch.searchsorted(neighbors, atoms))


def neighbor_list(
    positions: Tensor,
    cell: Tensor,
    pbc: Tensor,
    cutoff: float | Tensor,
    ptr: Tensor | None = None,
    half: bool = False,
    self_pairs: bool = False,
    *,
    batch_idx: Tensor | None = None,
) -> NeighborList:
    """Find all bonds shorter than the cutoff in one crystal or a batch of crystals, exactly and in a fixed order.

    A bond joins center i and neighbor j of one crystal through the shift S, with the vector
    ``d = r_j - r_i + S @ cell`` and ``|d| < cutoff``. Any cell is accepted (skewed, left-handed, far smaller than the
    cutoff), atoms may be outside of it, and the number of neighbors has no limit. An atom is its own neighbor with
    S = 0 only with `self_pairs`. Bonds are sorted by i, then j, then S, so the list is the same for any number of
    threads.

    The outputs are integers; `bond_vectors` is the differentiable part. On CUDA the call waits for the device once, for
    the number of bonds; `neighbor_list_fixed` does not.

    Args:
        positions: Cartesian positions. [N, 3], float32 or float64, Angstrom.
        cell: lattice vectors as rows, [B, 3, 3], or [3, 3] for all crystals; dtype of `positions`, Angstrom. Vectors of
            directions that are not periodic are ignored and may be zero.
        pbc: periodic directions, [B, 3], or [3] for all crystals. bool.
        cutoff: bonds are shorter than this length; 0 for no bonds. float, or a tensor with one value per crystal, [B],
            float32 or float64, Angstrom.
        ptr: crystal b owns the atoms ``ptr[b]:ptr[b + 1]``; None for one crystal. [B+1], int64.
        half: keep each bond once: i < j, or i == j and the first nonzero component of S positive.
        self_pairs: add the bond (i, i, S = 0) for every atom, for any cutoff, in half lists too.
        batch_idx: index of each atom's crystal, in ascending order; give it instead of `ptr`. The number of crystals B
            is the number of rows of `cell`, `pbc` or `cutoff`, the first of these that has one row per crystal.
            Otherwise it is the last index plus 1, for which the host waits. [N], any integer dtype.

    Returns:
        NeighborList with `pairs` [2, E], `shifts` [E, 3] and `row_ptr` [N+1].

    Raises:
        RuntimeError: a shape, dtype or device does not fit; a position, the cell or a cutoff is not finite; a cutoff is
            negative; the cell has no volume along its periodic directions; `ptr` does not cover the atoms; the list
            would not fit into memory, or its shifts into int32.

    Example:
        >>> cubic = neighbor_list(torch.zeros(1, 3), 3 * torch.eye(3), torch.tensor([True] * 3), cutoff=3.5)
        >>> cubic.shifts.tolist()
        [[-1, 0, 0], [0, -1, 0], [0, 0, -1], [0, 0, 1], [0, 1, 0], [1, 0, 0]]
    """
    ptr = ptr_of_batch("neighbor_list", positions.shape[0], ptr, batch_idx, cell, pbc, cutoff)
    if uses_reference():
        return reference_implementations().neighbor_list(positions, cell, pbc, cutoff, ptr, half, self_pairs)
    cutoff, per_crystal_cutoffs = split_cutoff("neighbor_list", cutoff)
    return NeighborList(
        *torch.ops.dtnn_fast.neighbor_list(positions, cell, pbc, ptr, cutoff, per_crystal_cutoffs, half, self_pairs)
    )


def split_cutoff(op: str, cutoff: float | Tensor) -> tuple[float, Tensor | None]:
    """Split a cutoff into a kernel's `cutoff` and `cutoffs`: (number, None) or (0, float64 tensor)."""
    if not isinstance(cutoff, Tensor):
        return cutoff, None
    if not cutoff.is_floating_point():
        raise RuntimeError(f"{op}: expected `cutoff` of a floating-point dtype, got {cutoff.dtype}")
    return 0.0, cutoff.to(torch.float64)


@torch.library.register_fake("dtnn_fast::neighbor_list")
def _fake(
    positions: Tensor,
    cell: Tensor,
    pbc: Tensor,
    ptr: Tensor | None,
    cutoff: float,
    cutoffs: Tensor | None,
    half: bool,
    self_pairs: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    check_same_device("neighbor_list", positions=positions, cell=cell, pbc=pbc, ptr=ptr, cutoff=cutoffs)
    return empty_list(positions, torch.library.get_ctx().new_dynamic_size())


def empty_list(positions: Tensor, num_bonds: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Allocate `pairs`, `shifts` and `row_ptr` for the atoms at `positions`."""
    pairs = positions.new_empty((2, num_bonds), dtype=torch.int64)
    shifts = positions.new_empty((num_bonds, 3), dtype=torch.int32)
    row_ptr = positions.new_empty((positions.shape[0] + 1,), dtype=torch.int64)
    return pairs, shifts, row_ptr


register_no_vmap("neighbor_list")

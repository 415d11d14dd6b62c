# SPDX-License-Identifier: MIT
"""Periodic neighbor lists."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .. import reference
from .._backend import uses_reference
from ..reference.neighbor_list import NeighborList
from ._registration import check_same_device, register_no_vmap


class NeighborOrder(NamedTuple):
    """The bonds whose neighbor is atom n are ``order[row_ptr[n]:row_ptr[n + 1]]``.

    Args:
        order: bonds, sorted by neighbor and then as stored. [E], int64.
        row_ptr: the segments. [N+1], int64.
    """

    order: Tensor
    row_ptr: Tensor


def neighbor_order(pairs: Tensor, num_atoms: int) -> NeighborOrder:
    """Sort the bonds by neighbor, keeping the stored order among equals.

    Args:
        pairs: centers and neighbors. [2, E], int64.
        num_atoms: the number of atoms N.

    Returns:
        The order and its segments.

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
) -> NeighborList:
    """Find all bonds shorter than the cutoff in one crystal or a batch of crystals, exactly and in a fixed order.

    A bond joins center i and neighbor j of one crystal through the shift S, with the vector
    ``d = r_j - r_i + S @ cell`` and ``|d| < cutoff``. Any cell will do (skewed, left-handed, far smaller than the
    cutoff), atoms need not be inside of it, and there is no limit on the number of neighbors. An atom is its own
    neighbor with S = 0 only where `self_pairs` asks for it. Bonds are sorted by i, then j, then S, so the list is the
    same for any number of threads.

    The outputs are integers; `bond_vectors` is the differentiable part. On CUDA the call waits for the device once, for
    the number of bonds; `neighbor_list_fixed` does not.

    Args:
        positions: Cartesian positions. [N, 3], float32 or float64, Angstrom.
        cell: lattice vectors as rows, [B, 3, 3], or [3, 3] for all crystals; dtype of `positions`, Angstrom. Vectors of
            directions that are not periodic play no role and may be zero.
        pbc: periodic directions, [B, 3], or [3] for all crystals. bool.
        cutoff: length of the longest bonds, exclusive; 0 for none. float, or a tensor with one for each crystal, [B],
            float32 or float64, Angstrom.
        ptr: crystal b owns the atoms ``ptr[b]:ptr[b + 1]``; None for one crystal. [B+1], int64.
        half: keep each bond once: i < j, or i == j and the first nonzero component of S positive.
        self_pairs: add the bond (i, i, S = 0) to every atom, whatever the cutoff, to half lists too.

    Returns:
        NeighborList with `pairs`, centers and neighbors, [2, E], int64; `shifts` S, [E, 3], int32; `row_ptr`, the bonds
        of atom i are ``row_ptr[i]:row_ptr[i + 1]``, [N+1], int64.

    Raises:
        RuntimeError: a shape, dtype or device does not fit; a position, the cell or a cutoff is not finite; a cutoff is
            negative; the cell has no volume along its periodic directions; `ptr` does not cover the atoms; the list
            would not fit into memory, or its shifts not into int32.

    Example:
        >>> cubic = neighbor_list(torch.zeros(1, 3), 3 * torch.eye(3), torch.tensor([True] * 3), cutoff=3.5)
        >>> cubic.shifts.tolist()
        [[-1, 0, 0], [0, -1, 0], [0, 0, -1], [0, 0, 1], [0, 1, 0], [1, 0, 0]]
    """
    if uses_reference():
        return reference.neighbor_list(positions, cell, pbc, cutoff, ptr, half, self_pairs)
    one, each = split_cutoff("neighbor_list", cutoff)
    return NeighborList(*torch.ops.dtnn_fast.neighbor_list(positions, cell, pbc, ptr, one, each, half, self_pairs))


def split_cutoff(op: str, cutoff: float | Tensor) -> tuple[float, Tensor | None]:
    """The arguments `cutoff` and `cutoffs` of an operation, which takes one number or a float64 tensor."""
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
    num_bonds = torch.library.get_ctx().new_dynamic_size()
    pairs = positions.new_empty((2, num_bonds), dtype=torch.int64)
    shifts = positions.new_empty((num_bonds, 3), dtype=torch.int32)
    row_ptr = positions.new_empty((positions.shape[0] + 1,), dtype=torch.int64)
    return pairs, shifts, row_ptr


register_no_vmap("neighbor_list")

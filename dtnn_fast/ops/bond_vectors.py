# SPDX-License-Identifier: MIT
"""Bond vectors, the differentiable part of a neighbor list."""

from __future__ import annotations

import torch
from torch import Tensor

from .._backend import reference_implementations, uses_reference
from ._batch_index import ptr_of_batch
from ._bond_ends import add_rows
from ._registration import check_same_device, register_derivatives, register_vmap
from .neighbor_list import NeighborOrder


def bond_vectors(
    positions: Tensor,
    cell: Tensor,
    pairs: Tensor,
    shifts: Tensor,
    ptr: Tensor | None = None,
    row_ptr: Tensor | None = None,
    by_neighbor: NeighborOrder | None = None,
    *,
    batch_idx: Tensor | None = None,
) -> Tensor:
    """Compute the vector of each bond from center to neighbor, the differentiable part of a neighbor list.

    ``d = (r_j - r_i) + ((s_0 a + s_1 b) + s_2 c)`` with the lattice vectors a, b, c of the bond's crystal.

    Args:
        positions: Cartesian positions. [N, 3], float32 or float64, Angstrom.
        cell: lattice vectors as rows, [B, 3, 3], or [3, 3] for all crystals; dtype of `positions`, Angstrom.
        pairs: centers and neighbors. [2, E], int64.
        shifts: lattice translations of the neighbors. [E, 3], int32.
        ptr: crystal b owns the atoms ``ptr[b]:ptr[b + 1]``; None for one crystal. [B+1], int64.
        row_ptr: the bonds of center n are ``row_ptr[n]:row_ptr[n + 1]``, for `pairs` sorted by center; None is allowed,
            but then the backward on CUDA must sort. [N+1], int64.
        by_neighbor: ``neighbor_order(pairs, N)``, only together with `row_ptr`; it saves the backward another sort.
        batch_idx: as in `neighbor_list`. [N], any integer dtype.

    Returns:
        Bond vectors. [E, 3], dtype of `positions`, Angstrom.

    Raises:
        RuntimeError: a shape, dtype or device does not fit, an index is out of range, or a bond joins two crystals.

    Example:
        >>> positions, cell = torch.zeros(1, 3), 2 * torch.eye(3)
        >>> bond_vectors(positions, cell, torch.tensor([[0], [0]]), torch.tensor([[0, 0, 1]], dtype=torch.int32))
        tensor([[0., 0., 2.]])
    """
    ptr = ptr_of_batch("bond_vectors", positions.shape[0], ptr, batch_idx, cell)
    if uses_reference():
        return reference_implementations().bond_vectors(positions, cell, pairs, shifts, ptr, row_ptr, by_neighbor)
    # The second comparison alone would make torch.compile treat batches of 3 crystals as a special case. A `ptr` of a
    # wrong shape is left to the kernel's check.
    if cell.dim() == 2 and cell.shape == (3, 3):
        cell = cell.expand(1 if ptr is None or ptr.dim() != 1 else max(ptr.shape[0] - 1, 0), 3, 3)
    order, order_ptr = by_neighbor or (None, None)
    return torch.ops.dtnn_fast.bond_vectors(positions, cell, pairs, shifts, ptr, row_ptr, order, order_ptr)


@torch.library.register_fake("dtnn_fast::bond_vectors")
def _fake(
    positions: Tensor,
    cell: Tensor,
    pairs: Tensor,
    shifts: Tensor,
    ptr: Tensor | None,
    row_ptr: Tensor | None = None,
    neighbor_order: Tensor | None = None,
    neighbor_row_ptr: Tensor | None = None,
) -> Tensor:
    check_same_device(
        "bond_vectors",
        positions=positions,
        cell=cell,
        pairs=pairs,
        shifts=shifts,
        ptr=ptr,
        row_ptr=row_ptr,
        neighbor_order=neighbor_order,
        neighbor_row_ptr=neighbor_row_ptr,
    )
    return positions.new_empty((pairs.shape[1], 3))


@torch.library.register_fake("dtnn_fast::bond_vectors_backward")
def _fake_backward(
    grad_vectors: Tensor,
    pairs: Tensor,
    shifts: Tensor,
    ptr: Tensor | None,
    num_atoms: int,
    num_cells: int,
    row_ptr: Tensor | None = None,
    neighbor_order: Tensor | None = None,
    neighbor_row_ptr: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    check_same_device(
        "bond_vectors_backward",
        grad=grad_vectors,
        pairs=pairs,
        shifts=shifts,
        ptr=ptr,
        row_ptr=row_ptr,
        neighbor_order=neighbor_order,
        neighbor_row_ptr=neighbor_row_ptr,
    )
    return grad_vectors.new_empty((num_atoms, 3)), grad_vectors.new_empty((num_cells, 3, 3))


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    positions, cell, *bonds = inputs
    ctx.num_atoms, ctx.num_cells = positions.shape[0], cell.shape[0]
    ctx.save_for_backward(*bonds)


def _backward(ctx, grad_vectors):  # type: ignore[no-untyped-def]
    *bonds, row_ptr, order, order_ptr = ctx.saved_tensors
    grad_positions, grad_cell = torch.ops.dtnn_fast.bond_vectors_backward(
        grad_vectors, *bonds, ctx.num_atoms, ctx.num_cells, row_ptr, order, order_ptr
    )
    return grad_positions, grad_cell, *[None] * 6


def _setup_backward(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    _, pairs, shifts, ptr, _, _, *orders = inputs
    ctx.save_for_backward(pairs, shifts, ptr, *orders)


def _backward_backward(ctx, grad_grad_positions, grad_grad_cell):  # type: ignore[no-untyped-def]
    grad_grad_vectors = torch.ops.dtnn_fast.bond_vectors(grad_grad_positions, grad_grad_cell, *ctx.saved_tensors)
    return grad_grad_vectors, *[None] * 8


def _reference(positions, cell, pairs, shifts, ptr, *_orders):  # type: ignore[no-untyped-def]
    return reference_implementations().bond_vectors(positions, cell, pairs, shifts, ptr)


def _reference_backward(grad_vectors, pairs, shifts, ptr, num_atoms, num_cells, *_orders):  # type: ignore[no-untyped-def]
    center, neighbor = pairs
    crystal = (
        torch.zeros_like(center)
        if ptr is None
        else torch.searchsorted(ptr.contiguous(), center.contiguous(), right=True) - 1
    )
    no_grad_positions, no_grad_cell = grad_vectors.new_zeros(num_atoms, 3), grad_vectors.new_zeros(num_cells, 3, 3)
    grad_positions = add_rows(add_rows(no_grad_positions, neighbor, grad_vectors), center, -grad_vectors)
    products = shifts.to(grad_vectors.dtype).unsqueeze(2) * grad_vectors.unsqueeze(1)
    return grad_positions, add_rows(no_grad_cell, crystal, products)


register_derivatives("bond_vectors", setup_context=_setup_context, backward=_backward, reference=_reference)
register_derivatives(
    "bond_vectors_backward", setup_context=_setup_backward, backward=_backward_backward, reference=_reference_backward
)
register_vmap("bond_vectors")
register_vmap("bond_vectors_backward")


def times_matrix(vectors: Tensor, matrices: Tensor, crystal: Tensor) -> Tensor:
    """Compute ``vectors[n] @ matrices[crystal[n]]``, much faster than a batched product of 3x3 matrices. [N, 3]."""
    if len(matrices) == 1:
        return vectors @ matrices[0]
    x, y, z = vectors[:, :, None].unbind(1)
    a, b, c = matrices.unbind(1)
    return x * a.index_select(0, crystal) + y * b.index_select(0, crystal) + z * c.index_select(0, crystal)

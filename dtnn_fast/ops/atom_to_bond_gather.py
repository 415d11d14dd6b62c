# SPDX-License-Identifier: MIT
"""Bring atom values to the bonds."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import reference
from .._backend import uses_reference
from ._bond_ends import end_coefficients, end_name, order_for
from ._registration import check_same_device, payload_of_first, register_autocast, register_derivatives, register_vmap
from .neighbor_list import NeighborOrder


def atom_to_bond_gather(
    atom_values: Tensor,
    pairs: Tensor,
    row_ptr: Tensor,
    ends: str = "center",
    by_neighbor: NeighborOrder | None = None,
) -> Tensor:
    """Bring the values of a bond's atoms to the bond: of one end, the sum of both, or neighbor minus center.

    It is the transpose of `bond_to_atom_sum` with the same arguments, and each is the other's derivative.

    Args:
        atom_values: values per atom. [N, ...], float32 or float64.
        pairs: centers and neighbors, sorted by center. [2, E], int64.
        row_ptr: the bonds of center n are ``row_ptr[n]:row_ptr[n + 1]``. [N+1], int64.
        ends: "center", "neighbor", "sum" or "difference" (neighbor minus center).
        by_neighbor: ``neighbor_order(pairs, N)``, computed when absent and needed; pass it to save the sort.

    Returns:
        Values per bond. [E, ...], dtype of `atom_values`.

    Raises:
        RuntimeError: a shape, dtype or device does not fit, or an index is outside [0, N).
        ValueError: `ends` is another word.

    Example:
        >>> atom_to_bond_gather(torch.tensor([[1.0], [5.0]]), torch.tensor([[0], [1]]), torch.tensor([0, 1, 1]),
        ...                     "difference")
        tensor([[4.]])
    """
    center, neighbor = end_coefficients("atom_to_bond_gather", ends)
    if uses_reference():
        return reference.atom_to_bond_gather(atom_values, pairs, row_ptr, ends)
    order, order_ptr = order_for(neighbor, by_neighbor, pairs, row_ptr)
    return torch.ops.dtnn_fast.atom_to_bond_gather(atom_values, pairs, row_ptr, order, order_ptr, center, neighbor)


@torch.library.register_fake("dtnn_fast::atom_to_bond_gather")
def _fake(
    atom_values: Tensor,
    pairs: Tensor,
    row_ptr: Tensor,
    neighbor_order: Tensor | None,
    neighbor_row_ptr: Tensor | None,
    center: int,
    neighbor: int,
) -> Tensor:
    check_same_device(
        "atom_to_bond_gather",
        atom_values=atom_values,
        pairs=pairs,
        row_ptr=row_ptr,
        neighbor_order=neighbor_order,
        neighbor_row_ptr=neighbor_row_ptr,
    )
    return atom_values.new_empty((pairs.shape[1], *atom_values.shape[1:]))


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    _, *indices, ctx.center, ctx.neighbor = inputs
    ctx.save_for_backward(*indices)


def _backward(ctx, grad_out):  # type: ignore[no-untyped-def]
    grad_atom_values = torch.ops.dtnn_fast.bond_to_atom_sum(grad_out, *ctx.saved_tensors, ctx.center, ctx.neighbor)
    return grad_atom_values, None, None, None, None, None, None


def _twin(atom_values, pairs, row_ptr, neighbor_order, neighbor_row_ptr, center, neighbor):  # type: ignore[no-untyped-def]
    return reference.atom_to_bond_gather(atom_values, pairs, row_ptr, end_name(center, neighbor))


register_derivatives("atom_to_bond_gather", setup_context=_setup_context, backward=_backward, twin=_twin)
register_vmap("atom_to_bond_gather", payload_of_first)
register_autocast("atom_to_bond_gather")

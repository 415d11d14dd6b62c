# SPDX-License-Identifier: MIT
"""Sum bond values over the bonds of each atom."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import reference
from .._backend import uses_reference
from ._bond_ends import end_coefficients, end_name, order_for
from ._registration import check_same_device, payload_of_first, register_autocast, register_derivatives, register_vmap
from .neighbor_list import NeighborOrder


def bond_to_atom_sum(
    bond_values: Tensor,
    pairs: Tensor,
    row_ptr: Tensor,
    ends: str = "center",
    by_neighbor: NeighborOrder | None = None,
) -> Tensor:
    """Sum bond values over the bonds of each atom, in a fixed order; the sums of Eq. 10 and 11 of arXiv 2405.09052.

    A full list has each bond from both ends, and ``ends="center"`` is the sum over an atom's bonds. A half list has
    each bond once: ``"sum"`` adds it to both ends (for even quantities), ``"difference"`` adds it to the neighbor and
    subtracts it from the center (for quantities that change sign with the direction of the bond).

    Args:
        bond_values: values per bond. [E, ...], float32 or float64.
        pairs: centers and neighbors, sorted by center. [2, E], int64.
        row_ptr: the bonds of center n are ``row_ptr[n]:row_ptr[n + 1]``. [N+1], int64.
        ends: "center", "neighbor", "sum" or "difference" (neighbor minus center).
        by_neighbor: ``neighbor_order(pairs, N)``, computed when absent and needed; pass it to save the sort.

    Returns:
        Sums per atom, 0 for atoms without bonds. [N, ...], dtype of `bond_values`.

    Raises:
        RuntimeError: a shape, dtype or device does not fit, or `pairs` disagrees with `row_ptr`.
        ValueError: `ends` is another word.

    Example:
        >>> bond_to_atom_sum(torch.ones(3, 1), torch.tensor([[0, 0, 1], [1, 0, 0]]), torch.tensor([0, 2, 3]))
        tensor([[2.],
                [1.]])
    """
    center, neighbor = end_coefficients("bond_to_atom_sum", ends)
    if uses_reference():
        return reference.bond_to_atom_sum(bond_values, pairs, row_ptr, ends)
    order, order_ptr = order_for(neighbor, by_neighbor, pairs, row_ptr)
    return torch.ops.dtnn_fast.bond_to_atom_sum(bond_values, pairs, row_ptr, order, order_ptr, center, neighbor)


@torch.library.register_fake("dtnn_fast::bond_to_atom_sum")
def _fake(
    bond_values: Tensor,
    pairs: Tensor,
    row_ptr: Tensor,
    neighbor_order: Tensor | None,
    neighbor_row_ptr: Tensor | None,
    center: int,
    neighbor: int,
) -> Tensor:
    check_same_device(
        "bond_to_atom_sum",
        bond_values=bond_values,
        pairs=pairs,
        row_ptr=row_ptr,
        neighbor_order=neighbor_order,
        neighbor_row_ptr=neighbor_row_ptr,
    )
    return bond_values.new_empty((row_ptr.shape[0] - 1, *bond_values.shape[1:]))


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    _, *indices, ctx.center, ctx.neighbor = inputs
    ctx.save_for_backward(*indices)


def _backward(ctx, grad_out):  # type: ignore[no-untyped-def]
    grad_bond_values = torch.ops.dtnn_fast.atom_to_bond_gather(grad_out, *ctx.saved_tensors, ctx.center, ctx.neighbor)
    return grad_bond_values, None, None, None, None, None, None


def _twin(bond_values, pairs, row_ptr, neighbor_order, neighbor_row_ptr, center, neighbor):  # type: ignore[no-untyped-def]
    return reference.bond_to_atom_sum(bond_values, pairs, row_ptr, end_name(center, neighbor))


register_derivatives("bond_to_atom_sum", setup_context=_setup_context, backward=_backward, twin=_twin)
register_vmap("bond_to_atom_sum", payload_of_first)
register_autocast("bond_to_atom_sum")

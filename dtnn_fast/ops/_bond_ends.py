# SPDX-License-Identifier: MIT
"""Shared parts of `bond_to_atom_sum` and `atom_to_bond_gather`: names of a bond's ends, sums by index, registration.

The two operations are linear and each other's transpose, so each is the other's derivative.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._backend import reference_implementations
from ._registration import (
    check_same_device,
    register_derivatives,
    register_vmap,
    samples_as_channels,
)
from .neighbor_list import NeighborOrder, neighbor_order

# The kernels multiply the value of each end by a coefficient: (center, neighbor).
COEFFICIENTS = {"center": (1, 0), "neighbor": (0, 1), "sum": (1, 1), "difference": (-1, 1)}


def end_coefficients(op: str, ends: str) -> tuple[int, int]:
    """Return the coefficients of the center and the neighbor.

    Raises:
        ValueError: `ends` is not a name in `COEFFICIENTS`.
    """
    if ends not in COEFFICIENTS:
        raise ValueError(f"{op}: expected `ends` to be one of {', '.join(COEFFICIENTS)}, got {ends!r}")
    return COEFFICIENTS[ends]


def order_for(
    neighbor: int, by_neighbor: NeighborOrder | None, pairs: Tensor, row_ptr: Tensor
) -> NeighborOrder | tuple[None, None]:
    """Return the given order of the bonds by neighbor, or compute it; Nones if the neighbor's coefficient is 0."""
    if neighbor == 0:
        return None, None
    # A `row_ptr` of a wrong shape is left to the kernel's check.
    return neighbor_order(pairs, row_ptr.numel() - 1) if by_neighbor is None else by_neighbor


def add_rows(rows: Tensor, index: Tensor, values: Tensor) -> Tensor:
    """Compute ``rows.index_add(0, index, values)``.

    Not by `index_add`: torch up to 2.13 compiles its tangents of forward mode to wrong numbers or a crash.
    """
    return rows.scatter_add(0, index.view(-1, *[1] * (values.dim() - 1)).expand_as(values), values)


def register_with_transpose(
    op: str, *, transpose: str, values_name: str, num_results: Callable[[Tensor, Tensor], Any]
) -> None:
    """Register fake, derivatives, vmap and autocast of one of the two operations.

    Under ``torch.autocast`` 16-bit values stay as they are on the CPU, as in torch's own scatter and index operations.

    Args:
        op: the operation, without the namespace.
        transpose: the other operation, which is the derivative.
        values_name: name of the first argument, for messages.
        num_results: first dimension of the result, from `pairs` and `row_ptr`.
    """

    def fake(
        values: Tensor,
        pairs: Tensor,
        row_ptr: Tensor,
        neighbor_order: Tensor | None,
        neighbor_row_ptr: Tensor | None,
        center: int,
        neighbor: int,
    ) -> Tensor:
        indices = {
            "pairs": pairs,
            "row_ptr": row_ptr,
            "neighbor_order": neighbor_order,
            "neighbor_row_ptr": neighbor_row_ptr,
        }
        check_same_device(op, **{values_name: values}, **indices)
        return values.new_empty((num_results(pairs, row_ptr), *values.shape[1:]))

    def setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
        _, *indices, ctx.center, ctx.neighbor = inputs
        ctx.save_for_backward(*indices)

    def backward(ctx, grad_out):  # type: ignore[no-untyped-def]
        transposed = getattr(torch.ops.dtnn_fast, transpose)
        return transposed(grad_out, *ctx.saved_tensors, ctx.center, ctx.neighbor), *[None] * 6

    def reference(values, pairs, row_ptr, neighbor_order, neighbor_row_ptr, center, neighbor):  # type: ignore[no-untyped-def]
        ends = next(name for name, pair in COEFFICIENTS.items() if pair == (center, neighbor))
        return getattr(reference_implementations(), op)(values, pairs, row_ptr, ends)

    torch.library.register_fake(f"dtnn_fast::{op}", fake)
    register_derivatives(op, setup_context=setup_context, backward=backward, reference=reference)
    register_vmap(op, samples_as_channels)

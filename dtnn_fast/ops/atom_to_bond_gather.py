# SPDX-License-Identifier: MIT
"""Gather atom values to the bonds."""

from __future__ import annotations

import torch
from torch import Tensor

from .._backend import reference_implementations, uses_reference
from ._bond_ends import end_coefficients, order_for, register_with_transpose
from .neighbor_list import NeighborOrder


def atom_to_bond_gather(
    atom_values: Tensor,
    pairs: Tensor,
    row_ptr: Tensor,
    ends: str = "center",
    by_neighbor: NeighborOrder | None = None,
) -> Tensor:
    """Gather atom values to the bonds: the value of one end, the sum of both ends, or neighbor minus center.

    It is the transpose of `bond_to_atom_sum` with the same arguments, and each is the other's derivative.

    Args:
        atom_values: values per atom. [N, ...], float32 or float64; on the CPU also float16 or bfloat16,
            which are added in float32 and rounded once.
        pairs: centers and neighbors, sorted by center. [2, E], int64.
        row_ptr: the bonds of center n are ``row_ptr[n]:row_ptr[n + 1]``. [N+1], int64.
        ends: "center", "neighbor", "sum" or "difference" (neighbor minus center).
        by_neighbor: ``neighbor_order(pairs, N)``; computed if it is needed and not given. Pass it to save the sort.

    Returns:
        Values per bond. [E, ...], dtype of `atom_values`.

    Raises:
        RuntimeError: a shape, dtype or device does not fit, or an index is outside [0, N).
        ValueError: `ends` has another value.

    Example:
        >>> atom_to_bond_gather(torch.tensor([[1.0], [5.0]]), torch.tensor([[0], [1]]), torch.tensor([0, 1, 1]),
        ...                     "difference")
        tensor([[4.]])
    """
    center, neighbor = end_coefficients("atom_to_bond_gather", ends)
    if uses_reference():
        return reference_implementations().atom_to_bond_gather(atom_values, pairs, row_ptr, ends)
    order, order_ptr = order_for(neighbor, by_neighbor, pairs, row_ptr)
    return torch.ops.dtnn_fast.atom_to_bond_gather(atom_values, pairs, row_ptr, order, order_ptr, center, neighbor)


def _num_results(pairs: Tensor, row_ptr: Tensor) -> int:
    return pairs.shape[1]


register_with_transpose(
    "atom_to_bond_gather", transpose="bond_to_atom_sum", values_name="atom_values", num_results=_num_results
)

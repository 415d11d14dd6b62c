# SPDX-License-Identifier: MIT
"""Sum bond values over the bonds of each atom."""

from __future__ import annotations

import torch
from torch import Tensor

from .._backend import reference_implementations, uses_reference
from ._bond_ends import end_coefficients, order_for, register_with_transpose
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
        bond_values: values per bond. [E, ...], float32 or float64; on the CPU also float16 or bfloat16,
            which are added in float32 and rounded once.
        pairs: centers and neighbors, sorted by center. [2, E], int64.
        row_ptr: the bonds of center n are ``row_ptr[n]:row_ptr[n + 1]``. [N+1], int64.
        ends: "center", "neighbor", "sum" or "difference" (neighbor minus center).
        by_neighbor: ``neighbor_order(pairs, N)``; computed if it is needed and not given. Pass it to save the sort.

    Returns:
        Sums per atom, zero for atoms without bonds. [N, ...], dtype of `bond_values`.

    Raises:
        RuntimeError: a shape, dtype or device does not fit, or `pairs` disagrees with `row_ptr`.
        ValueError: `ends` has another value.

    Example:
        >>> bond_to_atom_sum(torch.ones(3, 1), torch.tensor([[0, 0, 1], [1, 0, 0]]), torch.tensor([0, 2, 3]))
        tensor([[2.],
                [1.]])
    """
    center, neighbor = end_coefficients("bond_to_atom_sum", ends)
    if uses_reference():
        return reference_implementations().bond_to_atom_sum(bond_values, pairs, row_ptr, ends)
    order, order_ptr = order_for(neighbor, by_neighbor, pairs, row_ptr)
    return torch.ops.dtnn_fast.bond_to_atom_sum(bond_values, pairs, row_ptr, order, order_ptr, center, neighbor)


def _num_results(pairs: Tensor, row_ptr: Tensor) -> int:
    return row_ptr.shape[0] - 1


register_with_transpose(
    "bond_to_atom_sum", transpose="atom_to_bond_gather", values_name="bond_values", num_results=_num_results
)

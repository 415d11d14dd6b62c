# SPDX-License-Identifier: MIT
"""Twin of dtnn_fast.ops.bond_to_atom_sum."""

from __future__ import annotations

from torch import Tensor

from ..ops.neighbor_list import NeighborOrder


def bond_to_atom_sum(
    bond_values: Tensor,
    pairs: Tensor,
    row_ptr: Tensor,
    ends: str = "center",
    by_neighbor: NeighborOrder | None = None,
) -> Tensor:
    """Sum bond values over the bonds of each atom; see `dtnn_fast.ops.bond_to_atom_sum`."""
    sums = bond_values.new_zeros((row_ptr.shape[0] - 1, *bond_values.shape[1:]))
    if ends in ("center", "sum"):
        sums = sums.index_add(0, pairs[0], bond_values)
    if ends == "difference":
        sums = sums.index_add(0, pairs[0], -bond_values)
    if ends in ("neighbor", "sum", "difference"):
        sums = sums.index_add(0, pairs[1], bond_values)
    return sums

# SPDX-License-Identifier: MIT
"""Reference implementation of `bond_to_atom_sum`: scatter_add."""

from __future__ import annotations

from torch import Tensor

from ..ops._bond_ends import add_rows
from ..ops.neighbor_list import NeighborOrder


def bond_to_atom_sum(
    bond_values: Tensor,
    pairs: Tensor,
    row_ptr: Tensor,
    ends: str = "center",
    by_neighbor: NeighborOrder | None = None,
) -> Tensor:
    """Add the bond values to their atoms by index; see `dtnn_fast.ops.bond_to_atom_sum`."""
    dtype = bond_values.dtype
    bond_values = bond_values.float() if dtype.itemsize == 2 else bond_values
    sums = bond_values.new_zeros((row_ptr.shape[0] - 1, *bond_values.shape[1:]))
    if ends in ("center", "sum"):
        sums = add_rows(sums, pairs[0], bond_values)
    if ends == "difference":
        sums = add_rows(sums, pairs[0], -bond_values)
    if ends in ("neighbor", "sum", "difference"):
        sums = add_rows(sums, pairs[1], bond_values)
    return sums.to(dtype)

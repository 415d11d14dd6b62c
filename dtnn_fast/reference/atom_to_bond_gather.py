# SPDX-License-Identifier: MIT
"""Reference implementation of `atom_to_bond_gather`: indexing."""

from __future__ import annotations

from torch import Tensor

from ..ops.neighbor_list import NeighborOrder


def atom_to_bond_gather(
    atom_values: Tensor,
    pairs: Tensor,
    row_ptr: Tensor,
    ends: str = "center",
    by_neighbor: NeighborOrder | None = None,
) -> Tensor:
    """Index the atom values by both ends of the bonds; see `dtnn_fast.ops.atom_to_bond_gather`."""
    center, neighbor = pairs
    if ends == "center":
        return atom_values[center]
    if ends == "neighbor":
        return atom_values[neighbor]
    if ends == "sum":
        return atom_values[center] + atom_values[neighbor]
    return atom_values[neighbor] - atom_values[center]

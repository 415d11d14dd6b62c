# SPDX-License-Identifier: MIT
"""Twin of dtnn_fast.ops.atom_to_bond_gather."""

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
    """Bring the values of a bond's atoms to the bond; see `dtnn_fast.ops.atom_to_bond_gather`."""
    center, neighbor = pairs
    if ends == "center":
        return atom_values[center]
    if ends == "neighbor":
        return atom_values[neighbor]
    if ends == "sum":
        return atom_values[center] + atom_values[neighbor]
    return atom_values[neighbor] - atom_values[center]

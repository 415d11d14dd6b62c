# SPDX-License-Identifier: MIT
"""A readable plain PyTorch twin of every operation of `dtnn_fast.ops`, with the same signatures."""

from .atom_to_bond_gather import atom_to_bond_gather
from .bond_to_atom_sum import bond_to_atom_sum
from .neighbor_order import NeighborOrder, neighbor_order

__all__ = ["NeighborOrder", "atom_to_bond_gather", "bond_to_atom_sum", "neighbor_order"]

# SPDX-License-Identifier: MIT
"""The operations: native kernels on CPU and CUDA, differentiable to second order, usable under torch.compile."""

from ..reference.neighbor_order import NeighborOrder, neighbor_order
from .atom_to_bond_gather import atom_to_bond_gather
from .bond_to_atom_sum import bond_to_atom_sum

__all__ = ["NeighborOrder", "atom_to_bond_gather", "bond_to_atom_sum", "neighbor_order"]

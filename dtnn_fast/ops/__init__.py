# SPDX-License-Identifier: MIT
"""The operations: native kernels, differentiable to second order, usable under torch.compile.

All have CPU kernels; `bond_to_atom_sum` and `atom_to_bond_gather` have CUDA kernels too. Derivatives are those of
reverse mode (``torch.autograd.grad``, as often as needed). Forward mode (``torch.func.jvp``) is not supported by torch
for operations whose derivatives are registered from Python: it gives zero tangents without a warning.
"""

from .. import _library  # noqa: F401  loads the compiled operations before anything registers fakes for them
from ..reference.bond_reverses import FullToHalf
from ..reference.bonds_within import BondsWithin
from ..reference.neighbor_list import NeighborList
from ..reference.neighbor_order import NeighborOrder, neighbor_order
from ..reference.nested_neighbor_lists import NestedNeighborLists
from .atom_to_bond_gather import atom_to_bond_gather
from .bond_reverses import bond_reverses, full_to_half
from .bond_to_atom_sum import bond_to_atom_sum
from .bond_vectors import bond_vectors
from .bonds_within import bonds_within
from .neighbor_list import neighbor_list
from .nested_neighbor_lists import nested_neighbor_lists
from .rank2_gate import rank2_gate
from .rank2_linear import rank2_linear
from .tensor_readout import tensor_readout

__all__ = [
    "BondsWithin",
    "FullToHalf",
    "NeighborList",
    "NeighborOrder",
    "NestedNeighborLists",
    "atom_to_bond_gather",
    "bond_reverses",
    "bond_to_atom_sum",
    "bond_vectors",
    "bonds_within",
    "full_to_half",
    "neighbor_list",
    "neighbor_order",
    "nested_neighbor_lists",
    "rank2_gate",
    "rank2_linear",
    "tensor_readout",
]

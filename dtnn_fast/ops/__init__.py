# SPDX-License-Identifier: MIT
"""The operations: native kernels, differentiable to second order, usable under torch.compile.

All have CPU and CUDA kernels. Derivatives exist to second order in reverse mode (``torch.autograd.grad``,
``torch.func.grad``) and in forward mode (``torch.func.jvp``, which runs on `dtnn_fast.reference`). docs/compile.md
describes torch.compile, torch.export, torch.autocast and torch.vmap.

Errors name the operation and the argument, what was expected and what was given. On CUDA only the kernels see the
values of indices (`pairs`, `row_ptr`, `ptr`, `neighbor_order`), and the host does not wait for them. A kernel writes
NaN where a bad index would enter, and the next call on that device, or `check_device_errors`, raises the error.
`immediate_device_errors` makes each call wait and raise its own errors.
"""

from .. import _library  # noqa: F401  loads the compiled operations before anything registers fakes for them
from .atom_readout import atom_readout
from .atom_to_bond_gather import atom_to_bond_gather
from .atom_update import atom_update
from .bond_geometry import bond_geometry
from .bond_messages import BondMessages, MessageWeights, bond_messages
from .bond_perceptron_sum import bond_perceptron_sum
from .bond_reverses import FullToHalf, bond_reverses, full_to_half
from .bond_to_atom_sum import bond_to_atom_sum
from .bond_turns import BondTurns
from .bond_vectors import bond_vectors
from .bonds_within import BondsWithin, bonds_within
from .decode import decode
from .device_errors import check_device_errors, immediate_device_errors
from .native_operations import NativeOperations, native_operations
from .nearest_neighbors import nearest_neighbors
from .neighbor_list import NeighborList, NeighborOrder, neighbor_list, neighbor_order
from .neighbor_list_fixed import FixedNeighborList, neighbor_list_fixed
from .nested_neighbor_lists import NestedNeighborLists, nested_neighbor_lists
from .rank2_gate import rank2_gate
from .rank2_linear import rank2_linear
from .reduce_bonds import ReducedBonds, reduce_bonds
from .skin_neighbor_list import SkinNeighborList
from .symmetrise_crystals import SYMMETRY_FAULTS, SymmetrisedCrystals, symmetrise_crystals
from .tensor_readout import tensor_readout

__all__ = [
    "SYMMETRY_FAULTS",
    "BondMessages",
    "BondTurns",
    "BondsWithin",
    "FixedNeighborList",
    "FullToHalf",
    "MessageWeights",
    "NativeOperations",
    "NeighborList",
    "NeighborOrder",
    "NestedNeighborLists",
    "ReducedBonds",
    "SkinNeighborList",
    "SymmetrisedCrystals",
    "atom_readout",
    "atom_to_bond_gather",
    "atom_update",
    "bond_geometry",
    "bond_messages",
    "bond_perceptron_sum",
    "bond_reverses",
    "bond_to_atom_sum",
    "bond_vectors",
    "bonds_within",
    "check_device_errors",
    "decode",
    "full_to_half",
    "immediate_device_errors",
    "native_operations",
    "nearest_neighbors",
    "neighbor_list",
    "neighbor_list_fixed",
    "neighbor_order",
    "nested_neighbor_lists",
    "rank2_gate",
    "rank2_linear",
    "reduce_bonds",
    "symmetrise_crystals",
    "tensor_readout",
]

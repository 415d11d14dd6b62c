# SPDX-License-Identifier: MIT
"""Reference implementations: every operation of `dtnn_fast.ops` in readable plain PyTorch, with the same signature.

They trust their arguments: only the native operations check values such as indices.
"""

from ..ops.bond_reverses import FullToHalf
from ..ops.bonds_within import BondsWithin
from ..ops.neighbor_list import NeighborList, NeighborOrder, neighbor_order
from ..ops.neighbor_list_fixed import FixedNeighborList
from ..ops.nested_neighbor_lists import NestedNeighborLists
from ..ops.reduce_bonds import ReducedBonds
from ..ops.symmetrise_crystals import SYMMETRY_FAULTS, SymmetrisedCrystals
from .atom_readout import atom_readout
from .atom_to_bond_gather import atom_to_bond_gather
from .atom_update import atom_update
from .bond_geometry import bond_geometry
from .bond_messages import bond_messages
from .bond_perceptron_sum import bond_perceptron_sum
from .bond_reverses import bond_reverses, full_to_half
from .bond_to_atom_sum import bond_to_atom_sum
from .bond_vectors import bond_vectors
from .bonds_within import bonds_within
from .decode import decode
from .nearest_neighbors import nearest_neighbors
from .neighbor_list import neighbor_list
from .neighbor_list_fixed import neighbor_list_fixed
from .nested_neighbor_lists import nested_neighbor_lists
from .rank2_gate import rank2_gate
from .rank2_linear import rank2_linear
from .reduce_bonds import reduce_bonds
from .skin_neighbor_list import SkinNeighborList
from .symmetrise_crystals import symmetrise_crystals
from .tensor_readout import tensor_readout

__all__ = [
    "SYMMETRY_FAULTS",
    "BondsWithin",
    "FixedNeighborList",
    "FullToHalf",
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
    "decode",
    "full_to_half",
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

# SPDX-License-Identifier: MIT
"""The operations: native kernels, differentiable to second order, usable under torch.compile.

All have CPU kernels; `bond_to_atom_sum` and `atom_to_bond_gather` have CUDA kernels too. Derivatives exist to second
order in reverse mode (``torch.autograd.grad``, ``torch.func.grad``) and in forward mode (``torch.func.jvp``, which runs
on the twins in `dtnn_fast.reference`). What holds under torch.compile, torch.export, torch.autocast and torch.vmap is
in docs/compile.md.
"""

from .. import _library  # noqa: F401  loads the compiled operations before anything registers fakes for them
from ..reference.neighbor_list import NeighborList
from ..reference.neighbor_order import NeighborOrder, neighbor_order
from .atom_to_bond_gather import atom_to_bond_gather
from .bond_to_atom_sum import bond_to_atom_sum
from .bond_vectors import bond_vectors
from .neighbor_list import neighbor_list
from .rank2_gate import rank2_gate
from .rank2_linear import rank2_linear
from .tensor_readout import tensor_readout

__all__ = [
    "NeighborList",
    "NeighborOrder",
    "atom_to_bond_gather",
    "bond_to_atom_sum",
    "bond_vectors",
    "neighbor_list",
    "neighbor_order",
    "rank2_gate",
    "rank2_linear",
    "tensor_readout",
]

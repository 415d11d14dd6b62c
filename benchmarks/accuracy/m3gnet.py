# SPDX-License-Identifier: MIT
"""M3GNet (C. Chen, S. P. Ong, Nat. Comput. Sci. 2, 718, 2022) with a tensor as its stress is one."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from dtnn_fast.data.elements import SYMBOLS
from dtnn_fast.errors import optional_import

from .graphs import BondGraph

BLOCKS, UNITS, THREEBODY_CUTOFF = 3, 64, 4.0


class M3GNetTensor(nn.Module):
    """matgl's M3GNet, whose invariant output E, a sum over atoms, is differentiated with respect to a strain.

    ``T = v / V  dE / d eta`` at ``eta = 0``, with every bond vector d deformed to ``d (I + eta)`` and eta symmetric

    V is the volume of the cell and v the mean volume of an atom in the training set, which makes T of order 1.

    Args:
        cutoff: Angstrom.
        elements: the atomic numbers that occur, sorted.
        mean_volume: of an atom. cubic Angstrom.
    """

    index_of_element: Tensor

    def __init__(self, cutoff: float, elements: Sequence[int], mean_volume: float) -> None:
        super().__init__()
        models = optional_import("matgl.models", extra="accuracy", purpose="train the baseline M3GNet")
        self.network = models.M3GNet(
            element_types=tuple(SYMBOLS[z] for z in elements),
            nblocks=BLOCKS,
            units=UNITS,
            dim_node_embedding=UNITS,
            dim_edge_embedding=UNITS,
            is_intensive=False,
            use_smooth=True,  # radial functions that end smoothly at the cutoff, for derivatives
            cutoff=cutoff,
            threebody_cutoff=THREEBODY_CUTOFF,
        )
        index_of_element = torch.full((len(SYMBOLS),), -1)
        index_of_element[list(elements)] = torch.arange(len(elements))
        self.register_buffer("index_of_element", index_of_element)
        self.mean_volume = mean_volume

    def forward(self, graph: BondGraph) -> Tensor:
        """[B, 3, 3]."""
        crystal_of_atom = graph.crystal_of_atom
        with torch.enable_grad():
            strain = graph.vectors.new_zeros((graph.num_crystals, 3, 3), requires_grad=True)
            deformation = 0.5 * (strain + strain.mT)[crystal_of_atom[graph.pairs[0]]]
            vectors = graph.vectors + (graph.vectors[:, None] @ deformation)[:, 0]
            # With all atoms at the origin, matgl's vector of a bond is its offset alone.
            bonds = SimpleNamespace(
                node_type=self.index_of_element[graph.atomic_numbers],
                pos=vectors.new_zeros((graph.num_atoms, 3)),
                edge_index=graph.pairs,
                pbc_offshift=vectors,
                batch=crystal_of_atom,
                num_graphs=graph.num_crystals,
            )
            energies = self.network(bonds)
            (derivative,) = torch.autograd.grad(energies.sum(), strain, create_graph=self.training)
        return derivative * (self.mean_volume / graph.volumes)[:, None, None]

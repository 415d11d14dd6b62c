# SPDX-License-Identifier: MIT
"""M3GNet (C. Chen, S. P. Ong, Nat. Comput. Sci. 2, 718, 2022) with a tensor that is made like its stress."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dtnn_fast.crystals.elements import SYMBOLS
from dtnn_fast.errors import optional_import

from .graphs import BondGraph
from .m3gnet_bonds import DEGREES, RADIAL, Bonds
from .m3gnet_layers import AngleSums, AtomsAndBonds
from .m3gnet_linear import constant_weights, linear, silu

BLOCKS, UNITS, THREEBODY_CUTOFF = 3, 64, 4.0


class M3GNetTensor(nn.Module):
    """matgl's M3GNet, whose invariant outputs E, sums over atoms, are differentiated with respect to a strain.

    ``T = v / V  dE / d eta`` at ``eta = 0``, with every bond vector d deformed to ``d (I + eta)`` and eta symmetric

    V is the volume of the cell and v the mean volume of an atom in the training set, which makes T of order 1. The
    parameters and their initial values are matgl's; the network is evaluated by `energies`, which computes the same
    faster.

    Args:
        cutoff: Angstrom.
        elements: the atomic numbers that occur, sorted.
        mean_volume: mean volume of an atom. cubic Angstrom.
        readouts: number of tensors, each from its own output.
    """

    index_of_element: Tensor

    def __init__(self, cutoff: float, elements: Sequence[int], mean_volume: float, readouts: int = 1) -> None:
        super().__init__()
        models = optional_import("matgl.models", extra="accuracy", purpose="train the baseline M3GNet")
        self.network = models.M3GNet(
            element_types=tuple(SYMBOLS[z] for z in elements),
            nblocks=BLOCKS,
            units=UNITS,
            dim_node_embedding=UNITS,
            dim_edge_embedding=UNITS,
            max_n=RADIAL,
            max_l=DEGREES,
            is_intensive=False,
            use_smooth=True,  # radial functions that end smoothly at the cutoff, for derivatives
            cutoff=cutoff,
            threebody_cutoff=THREEBODY_CUTOFF,
            ntargets=readouts,
        )
        index_of_element = torch.full((len(SYMBOLS),), -1)
        index_of_element[list(elements)] = torch.arange(len(elements))
        self.register_buffer("index_of_element", index_of_element)
        self.cutoff, self.mean_volume = cutoff, mean_volume

    def energies(self, bonds: Bonds, radial: Tensor, angular: Tensor, cutoff: Tensor, harmonics: Tensor) -> Tensor:
        """Outputs of the atoms, from functions of the bonds. [N, R]."""
        network, maps, angles = self.network, AtomsAndBonds(bonds), AngleSums(bonds, harmonics)
        atoms = network.embedding.layer_node_embedding(self.index_of_element[bonds.graph.atomic_numbers])
        embedding = network.embedding.layer_edge_embedding.layers[0]
        features = silu(linear(radial, embedding.weight, embedding.bias))
        for angle_layer, block in zip(network.three_body_interactions, network.graph_layers, strict=True):
            conv = block.conv
            features = angles(angle_layer, atoms, features, angular, cutoff)
            weights = linear(radial, conv.edge_weight_func.weight)
            features = features + maps.gated_mlp(conv.edge_update_func, atoms, features) * weights
            weights = linear(radial, conv.node_weight_func.weight)
            atoms = atoms + maps.sum(maps.gated_mlp(conv.node_update_func, atoms, features) * weights)
        return network.final_layer(atoms)

    def forward(self, graph: BondGraph) -> Tensor:
        """[B, R, 3, 3]."""
        bonds = Bonds(graph, self.cutoff, THREEBODY_CUTOFF)
        with torch.enable_grad():
            functions = bonds.functions.leaves()
            energies = self.energies(bonds, *functions).sum(0)
            with constant_weights():
                derivatives = [
                    torch.autograd.grad(energy, functions, retain_graph=True, create_graph=self.training)
                    for energy in energies
                ]
            tensors = torch.stack([bonds.strain_derivative(*grads) for grads in derivatives], dim=1)
        return tensors * (self.mean_volume / graph.volumes)[:, None, None, None]

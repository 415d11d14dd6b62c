# SPDX-License-Identifier: MIT
"""PaiNN, written from its paper (K. Schütt, O. Unke, M. Gastegger, ICML 2021, arXiv 2102.03150), for crystals' tensors.

No release of the authors' package schnetpack can be imported beside torch 2.13. The tests compare this file with it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dtnn_fast.crystals.elements import SYMBOLS
from dtnn_fast.ops import bond_to_atom_sum

from .graphs import BondGraph

FEATURES, BLOCKS, RADIAL = 128, 3, 20


def _norm(vectors: Tensor) -> Tensor:
    """Lengths with a derivative at zero, where vectors on centers of symmetry are. [N, 3, C] -> [N, C]."""
    return (vectors.square().sum(1) + 1e-8).sqrt()


def _perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, outputs))


class RadialFilter(nn.Module):
    """Linear maps of the radial basis ``sin(n pi r / R) / r``, all ending as ``(cos(pi r / R) + 1) / 2`` does.

    Args:
        cutoff: R, Angstrom.
        outputs: how many.
    """

    orders: Tensor

    def __init__(self, cutoff: float, outputs: int) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.register_buffer("orders", torch.pi / cutoff * torch.arange(1, RADIAL + 1))
        self.linear = nn.Linear(RADIAL, outputs)

    def forward(self, lengths: Tensor) -> Tensor:
        """[E, 1] -> [E, outputs]."""
        basis = torch.sin(lengths * self.orders) / lengths
        return self.linear(basis) * (0.5 * torch.cos(torch.pi / self.cutoff * lengths) + 0.5)


class Message(nn.Module):
    """The message block: scalars filter the neighbors' scalars, their vectors, and the bonds' directions."""

    def __init__(self) -> None:
        super().__init__()
        self.senders = _perceptron(FEATURES, FEATURES, 3 * FEATURES)

    def forward(
        self, scalars: Tensor, vectors: Tensor, filters: Tensor, directions: Tensor, graph: BondGraph
    ) -> tuple[Tensor, Tensor]:
        """New scalars [N, C] and vectors [N, 3, C]."""
        neighbors = graph.pairs[1]
        filtered = self.senders(scalars)[neighbors] * filters
        for_scalars, along_bond, for_vectors = filtered.chunk(3, dim=1)
        moved = along_bond[:, None] * directions[:, :, None] + for_vectors[:, None] * vectors[neighbors]
        return (
            scalars + bond_to_atom_sum(for_scalars, graph.pairs, graph.row_ptr),
            vectors + bond_to_atom_sum(moved, graph.pairs, graph.row_ptr),
        )


class Update(nn.Module):
    """The update block: an atom's scalars and vectors act on each other."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(FEATURES, 2 * FEATURES, bias=False)
        self.factors = _perceptron(2 * FEATURES, FEATURES, 3 * FEATURES)

    def forward(self, scalars: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """New scalars [N, C] and vectors [N, 3, C]."""
        first, second = self.mix(vectors).chunk(2, dim=2)
        factors = self.factors(torch.cat([scalars, _norm(first)], dim=1))
        for_scalars, for_vectors, for_products = factors.chunk(3, dim=1)
        products = (first * second).sum(1)
        return scalars + for_scalars + for_products * products, vectors + for_vectors[:, None] * second


class PaiNN(nn.Module):
    """Scalars and vectors of atoms after three message and update blocks.

    Args:
        cutoff: Angstrom.
    """

    def __init__(self, cutoff: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(SYMBOLS), FEATURES)
        self.filters = RadialFilter(cutoff, 3 * FEATURES * BLOCKS)
        self.messages = nn.ModuleList(Message() for _ in range(BLOCKS))
        self.updates = nn.ModuleList(Update() for _ in range(BLOCKS))

    def forward(self, graph: BondGraph) -> tuple[Tensor, Tensor]:
        """[N, C] and [N, 3, C]."""
        lengths = graph.vectors.norm(dim=1, keepdim=True)
        directions = graph.vectors / lengths
        filters = self.filters(lengths).chunk(BLOCKS, dim=1)
        scalars = self.embedding(graph.atomic_numbers)
        vectors = scalars.new_zeros((graph.num_atoms, 3, FEATURES))
        for block in range(BLOCKS):
            scalars, vectors = self.messages[block](scalars, vectors, filters[block], directions, graph)
            scalars, vectors = self.updates[block](scalars, vectors)
        return scalars, vectors


class GatedBlock(nn.Module):
    """PaiNN's gated equivariant block, which narrows scalars and vectors to outputs.

    Args:
        inputs: scalars and vectors that come in.
        hidden: width between.
        scalars: scalars that go out.
        vectors: vectors that go out.
    """

    def __init__(self, inputs: int, hidden: int, scalars: int, vectors: int) -> None:
        super().__init__()
        self.num_scalars = scalars
        self.mix = nn.Linear(inputs, 2 * vectors, bias=False)
        self.perceptron = _perceptron(inputs + vectors, hidden, scalars + vectors)

    def forward(self, scalars: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """[N, scalars] and [N, 3, vectors]."""
        first, second = self.mix(vectors).chunk(2, dim=2)
        found = self.perceptron(torch.cat([scalars, _norm(first)], dim=1))
        return found[:, : self.num_scalars], found[:, None, self.num_scalars :] * second


class PaiNNTensor(nn.Module):
    """The tensors of a crystal from PaiNN's scalars and vectors.

    ``T = mean over atoms of a I + (v (x) w + w (x) v) / 2``

    a, v and w of each tensor come from two gated blocks. PaiNN's head for molecules has the atom's position in the
    place of w. In a crystal that would depend on the origin and on which image of an atom is in the cell, so w is a
    second vector here.

    Args:
        cutoff: Angstrom.
        readouts: R, how many tensors.
    """

    def __init__(self, cutoff: float, readouts: int) -> None:
        super().__init__()
        self.representation = PaiNN(cutoff)
        self.narrow = GatedBlock(FEATURES, FEATURES, FEATURES // 2, FEATURES // 2)
        self.last = GatedBlock(FEATURES // 2, FEATURES // 2, readouts, 2 * readouts)
        for module in self.modules():
            if isinstance(module, nn.Linear):  # as in the authors' package
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, graph: BondGraph) -> Tensor:
        """[B, R, 3, 3]."""
        scalars, vectors = self.narrow(*self.representation(graph))
        scalars, vectors = self.last(nn.functional.silu(scalars), vectors)
        v, w = vectors.mT.chunk(2, dim=1)
        dyad = v[:, :, :, None] * w[:, :, None, :]
        isotropic = scalars[:, :, None, None] * torch.eye(3, dtype=scalars.dtype)
        return graph.crystal_mean(isotropic + 0.5 * (dyad + dyad.mT))

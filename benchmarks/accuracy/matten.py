# SPDX-License-Identifier: MIT
"""MatTen (M. Wen et al., Digital Discovery 3, 869, 2024, arXiv 2307.15242), built from the parts of e3nn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from dtnn_fast.data.elements import SYMBOLS
from dtnn_fast.errors import optional_import
from dtnn_fast.ops import bond_to_atom_sum

from .graphs import BondGraph

EMBEDDING, RADIAL, RADIAL_HIDDEN, LAYERS = 16, 8, 32, 3
BOND_IRREPS = "0e + 1o + 2e + 3o + 4e"
LAYER_IRREPS = "32x0o + 32x0e + 16x1o + 16x1e + 4x2o + 4x2e + 2x3o + 2x3e + 2x4e"
HEAD_IRREPS = "16x0e + 2x2e"  # the authors' 16x0e + 2x2e + 4e without what a symmetric rank-2 tensor has no part in
TENSOR_FORMULA = "ij=ji"


def _e3nn(module: str) -> Any:
    return optional_import(f"e3nn.{module}", extra="accuracy", purpose="train the baseline MatTen")


class Convolution(nn.Module):
    """A point convolution of tensor field networks, with species-dependent linear maps before, after and beside it.

    ``x_i' = S(z_i) x_i + W'(z_i) sum_j R(r_ij) [W(z_j) x_j (x) Y(u_ij)] / sqrt(mean number of bonds)``

    Args:
        irreps_in: of the atoms.
        irreps_out: of the atoms after it; those that no product of input and bond has are left out by the caller.
        num_species: number of elements.
        mean_neighbors: bonds of an atom.
    """

    def __init__(self, irreps_in: Any, irreps_out: Any, num_species: int, mean_neighbors: float) -> None:
        super().__init__()
        o3 = _e3nn("o3")
        self.mean_neighbors = mean_neighbors
        species = o3.Irreps(f"{num_species}x0e")
        self.before = o3.FullyConnectedTensorProduct(irreps_in, species, irreps_in)
        self.product = _bond_product(irreps_in, irreps_out)
        self.weights = _e3nn("nn").FullyConnectedNet(
            [RADIAL, RADIAL_HIDDEN, RADIAL_HIDDEN, self.product.weight_numel], nn.functional.silu
        )
        self.after = o3.FullyConnectedTensorProduct(self.product.irreps_out.simplify(), species, irreps_out)
        self.beside = o3.FullyConnectedTensorProduct(irreps_in, species, irreps_out)

    def forward(self, atoms: Tensor, species: Tensor, directions: Tensor, lengths: Tensor, graph: BondGraph) -> Tensor:
        """Features of the atoms. [N, irreps_out.dim]."""
        sent = self.before(atoms, species)[graph.pairs[1]]
        messages = self.product(sent, directions, self.weights(lengths))
        received = bond_to_atom_sum(messages, graph.pairs, graph.row_ptr) / self.mean_neighbors**0.5
        return cast(Tensor, self.beside(atoms, species) + self.after(received, species))


class MatTen(nn.Module):
    """Three gated convolutions, a last one without gate, the mean over the atoms, and a linear map to a tensor.

    Args:
        cutoff: Angstrom.
        elements: the atomic numbers that occur, sorted.
        mean_neighbors: bonds of an atom in the training set.
    """

    index_of_element: Tensor

    def __init__(self, cutoff: float, elements: Sequence[int], mean_neighbors: float) -> None:
        super().__init__()
        o3 = _e3nn("o3")
        self.cutoff, self.num_species = cutoff, len(elements)
        self.embedding = nn.Linear(self.num_species, EMBEDDING)
        self.harmonics = o3.SphericalHarmonics(o3.Irreps(BOND_IRREPS), normalize=True, normalization="component")
        self.convolutions, self.gates, self.norms = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        irreps = o3.Irreps(f"{EMBEDDING}x0e")
        for _ in range(LAYERS):
            gate = _gate(irreps)
            self.convolutions.append(Convolution(irreps, gate.irreps_in, self.num_species, mean_neighbors))
            self.gates.append(gate)
            irreps = gate.irreps_out
            self.norms.append(_e3nn("nn").BatchNorm(irreps))
        last = o3.Irreps(LAYER_IRREPS)
        self.convolutions.append(Convolution(irreps, last, self.num_species, mean_neighbors))
        tensor = _e3nn("io").CartesianTensor(TENSOR_FORMULA)
        self.head = nn.Sequential(o3.Linear(last, HEAD_IRREPS), o3.Linear(HEAD_IRREPS, o3.Irreps(tensor)))
        self.register_buffer("change_of_basis", tensor.reduced_tensor_products().change_of_basis, persistent=False)
        index_of_element = torch.full((len(SYMBOLS),), -1)
        index_of_element[list(elements)] = torch.arange(len(elements))
        self.register_buffer("index_of_element", index_of_element)

    def forward(self, graph: BondGraph) -> Tensor:
        """[B, 3, 3]."""
        vectors = graph.vectors
        species = nn.functional.one_hot(self.index_of_element[graph.atomic_numbers], self.num_species).to(vectors)
        directions = self.harmonics(vectors)
        lengths = _e3nn("math").soft_one_hot_linspace(
            vectors.norm(dim=1), 0.0, self.cutoff, RADIAL, basis="bessel", cutoff=True
        )
        lengths = lengths * RADIAL**0.5  # order 1
        atoms = self.embedding(species)
        for layer in range(LAYERS):
            atoms = self.convolutions[layer](atoms, species, directions, lengths, graph)
            atoms = self.norms[layer](self.gates[layer](atoms))
        atoms = self.convolutions[LAYERS](atoms, species, directions, lengths, graph)
        irreducible = self.head(graph.crystal_mean(atoms))
        return torch.einsum("bk,kij->bij", irreducible, cast(Tensor, self.change_of_basis))


def _reachable(irreps_in: Any, irrep: Any) -> bool:
    bonds = _e3nn("o3").Irreps(BOND_IRREPS)
    return any(irrep in one * other for _, one in irreps_in for _, other in bonds)


def _gate(irreps_in: Any) -> Any:
    """The gate after a convolution of `irreps_in`: SiLU and tanh on scalars, sigmoids of even scalars on the rest."""
    o3 = _e3nn("o3")
    wanted = [(count, irrep) for count, irrep in o3.Irreps(LAYER_IRREPS) if _reachable(irreps_in, irrep)]
    scalars = o3.Irreps([part for part in wanted if part[1].l == 0])
    gated = o3.Irreps([part for part in wanted if part[1].l > 0])
    functions = {1: nn.functional.silu, -1: torch.tanh}
    gates = o3.Irreps(f"{gated.num_irreps}x0e")
    return _e3nn("nn").Gate(scalars, [functions[irrep.p] for _, irrep in scalars], gates, [torch.sigmoid], gated)


def _bond_product(irreps_in: Any, irreps_out: Any) -> Any:
    """Each channel of an atom times each harmonic of a bond, with weights that the caller gives for each bond."""
    o3 = _e3nn("o3")
    paths = [
        (first, second, count, irrep)
        for first, (count, one) in enumerate(irreps_in)
        for second, (_, other) in enumerate(o3.Irreps(BOND_IRREPS))
        for irrep in one * other
        if irrep in irreps_out
    ]
    products, places, _ = o3.Irreps([(count, irrep) for _, _, count, irrep in paths]).sort()
    instructions = [
        (first, second, place, "uvu", True) for (first, second, _, _), place in zip(paths, places, strict=True)
    ]
    return o3.TensorProduct(
        irreps_in, o3.Irreps(BOND_IRREPS), products, instructions, internal_weights=False, shared_weights=False
    )

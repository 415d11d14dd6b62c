# SPDX-License-Identifier: MIT
"""MatTen (M. Wen et al., Digital Discovery 3, 869, 2024, arXiv 2307.15242), built from the parts of e3nn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from dtnn_fast.crystals.elements import SYMBOLS
from dtnn_fast.errors import optional_import

from .bond_product import CompiledProduct
from .graphs import BondGraph
from .matten_layers import BondProduct, Couplings, SpeciesLinear

EMBEDDING, RADIAL, RADIAL_HIDDEN, LAYERS = 16, 8, 32, 3
BOND_IRREPS = "0e + 1o + 2e + 3o + 4e"
LAYER_IRREPS = "32x0o + 32x0e + 16x1o + 16x1e + 4x2o + 4x2e + 2x3o + 2x3e + 2x4e"
HEAD_IRREPS = "16x0e + 2x2e"  # the authors' 16x0e + 2x2e + 4e without what a symmetric rank-2 tensor has no part in
TENSOR_FORMULA = "ij=ji"


def _e3nn(module: str) -> Any:
    return optional_import(f"e3nn.{module}", extra="accuracy", purpose="train the baseline MatTen")


class Convolution(nn.Module):
    """A point convolution of tensor field networks, with maps that depend on the element before, after and beside it.

    ``x_i' = S(z_i) x_i + W'(z_i) sum_j R(r_ij) [W(z_j) x_j (x) Y(u_ij)] / sqrt(mean number of bonds)``

    Args:
        irreps_in: irreps of the atoms.
        irreps_out: irreps of the atoms after it.
        couplings: couplings with the harmonics of the bonds.
        num_species: number of elements.
        mean_neighbors: bonds of an atom.
    """

    def __init__(
        self, irreps_in: Any, irreps_out: Any, couplings: Couplings, num_species: int, mean_neighbors: float
    ) -> None:
        super().__init__()
        self.mean_neighbors = mean_neighbors
        self.before = SpeciesLinear(irreps_in, irreps_in, num_species)
        self.product = BondProduct(irreps_in, couplings, irreps_out)
        self.weights = _e3nn("nn").FullyConnectedNet(
            [RADIAL, RADIAL_HIDDEN, RADIAL_HIDDEN, self.product.num_weights], nn.functional.silu
        )
        self.after = SpeciesLinear(self.product.irreps_out, irreps_out, num_species)
        self.beside = SpeciesLinear(irreps_in, irreps_out, num_species)

    def forward(
        self, atoms: Tensor, species: Tensor, tables: list[Tensor], lengths: Tensor, graph: BondGraph
    ) -> Tensor:
        """Features of the atoms. [N, irreps_out.dim]."""
        received = self.product(self.before(atoms, species), tables, self.weights(lengths), graph)
        return cast(Tensor, self.beside(atoms, species) + self.after(received / self.mean_neighbors**0.5, species))


class MatTen(nn.Module):
    """Three gated convolutions, a last one without gate, the mean over the atoms, and a head for each tensor.

    Args:
        cutoff: Angstrom.
        elements: the atomic numbers that occur, sorted.
        mean_neighbors: bonds of an atom in the training set.
        readouts: number of tensors, R.
    """

    index_of_element: Tensor

    def __init__(self, cutoff: float, elements: Sequence[int], mean_neighbors: float, readouts: int) -> None:
        super().__init__()
        o3 = _e3nn("o3")
        self.cutoff, num_species = cutoff, len(elements)
        self.embedding = nn.Embedding(num_species, EMBEDDING)
        self.harmonics = o3.SphericalHarmonics(o3.Irreps(BOND_IRREPS), normalize=True, normalization="component")
        self.couplings = Couplings(o3.Irreps(BOND_IRREPS), o3.Irreps(LAYER_IRREPS).lmax)
        self.convolutions, self.gates, self.norms = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        irreps = o3.Irreps(f"{EMBEDDING}x0e")
        for _ in range(LAYERS):
            gate = _gate(irreps)
            self.convolutions.append(Convolution(irreps, gate.irreps_in, self.couplings, num_species, mean_neighbors))
            self.gates.append(gate)
            irreps = gate.irreps_out
            self.norms.append(_e3nn("nn").BatchNorm(irreps))
        # The last layer computes only what the heads read.
        read = {irrep for _, irrep in o3.Irreps(HEAD_IRREPS)}
        last = o3.Irreps([part for part in o3.Irreps(LAYER_IRREPS) if part[1] in read])
        self.convolutions.append(Convolution(irreps, last, self.couplings, num_species, mean_neighbors))
        tensor = _e3nn("io").CartesianTensor(TENSOR_FORMULA)
        self.heads = nn.ModuleList(
            nn.Sequential(o3.Linear(last, HEAD_IRREPS), o3.Linear(HEAD_IRREPS, o3.Irreps(tensor)))
            for _ in range(readouts)
        )
        self.register_buffer("change_of_basis", tensor.reduced_tensor_products().change_of_basis, persistent=False)
        index_of_element = torch.full((len(SYMBOLS),), -1)
        index_of_element[list(elements)] = torch.arange(len(elements))
        self.register_buffer("index_of_element", index_of_element)

    def compile_parts(self) -> None:
        """Let compiled code take the products at the bonds.

        Raises:
            DTNNError: there is no C++ compiler.
        """
        compiled = CompiledProduct()
        for convolution in self.convolutions:
            cast(Convolution, convolution).product.compiled = compiled

    def forward(self, graph: BondGraph) -> Tensor:
        """[B, R, 3, 3]."""
        species = self.index_of_element[graph.atomic_numbers]
        tables = self.couplings(self.harmonics(graph.vectors))
        lengths = _e3nn("math").soft_one_hot_linspace(
            graph.vectors.norm(dim=1), 0.0, self.cutoff, RADIAL, basis="bessel", cutoff=True
        )
        lengths = lengths * RADIAL**0.5  # order 1
        atoms = self.embedding(species)
        for layer in range(LAYERS):
            atoms = self.convolutions[layer](atoms, species, tables, lengths, graph)
            atoms = self.norms[layer](self.gates[layer](atoms))
        atoms = self.convolutions[LAYERS](atoms, species, tables, lengths, graph)
        crystals = graph.crystal_mean(atoms)
        irreducible = torch.stack([head(crystals) for head in self.heads], dim=1)
        return torch.einsum("brk,kij->brij", irreducible, cast(Tensor, self.change_of_basis))


def _reachable(irreps_in: Any, irrep: Any) -> bool:
    bonds = _e3nn("o3").Irreps(BOND_IRREPS)
    return any(irrep in irrep_in * irrep_bond for _, irrep_in in irreps_in for _, irrep_bond in bonds)


def _gate(irreps_in: Any) -> Any:
    """The gate after a convolution of `irreps_in`: SiLU and tanh on scalars, sigmoids of even scalars on the rest."""
    o3 = _e3nn("o3")
    wanted = [(count, irrep) for count, irrep in o3.Irreps(LAYER_IRREPS) if _reachable(irreps_in, irrep)]
    scalars = o3.Irreps([part for part in wanted if part[1].l == 0])
    gated = o3.Irreps([part for part in wanted if part[1].l > 0])
    functions = {1: nn.functional.silu, -1: torch.tanh}
    gates = o3.Irreps(f"{gated.num_irreps}x0e")
    return _e3nn("nn").Gate(scalars, [functions[irrep.p] for _, irrep in scalars], gates, [torch.sigmoid], gated)

# SPDX-License-Identifier: MIT
"""The two maps of a MatTen layer in few and large operations; the tests compare them with e3nn's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dtnn_fast.errors import optional_import
from dtnn_fast.ops import atom_to_bond_gather, bond_to_atom_sum

from .graphs import BondGraph


class SpeciesLinear(nn.Module):
    """Linear maps among channels that transform alike, other ones for each element.

    ``y_w = sum_u W[z]_uw x_u / sqrt(channels in * elements)``

    This is e3nn's fully connected product with the one-hot vector of the element, normalisation included.

    Args:
        irreps_in: e3nn's irreps of the input, each kind once.
        irreps_out: of the output; kinds that the input lacks come out as zeros.
        num_species: number of elements.
    """

    def __init__(self, irreps_in: Any, irreps_out: Any, num_species: int) -> None:
        super().__init__()
        inputs = dict(zip((irrep for _, irrep in irreps_in), irreps_in.slices(), strict=True))
        self.blocks: list[tuple[slice, int, int] | int] = []  # input, its channels and size; or the width of zeros
        self.weights = nn.ParameterList()
        for channels, irrep in irreps_out:
            if irrep in inputs:
                part = inputs[irrep]
                channels_in = (part.stop - part.start) // irrep.dim
                self.blocks.append((part, channels_in, irrep.dim))
                self.weights.append(torch.randn(num_species, channels, channels_in))
            else:
                self.blocks.append(channels * irrep.dim)

    def forward(self, atoms: Tensor, species: Tensor) -> Tensor:
        """Features [N, irreps_out.dim] from features [N, irreps_in.dim] and the indices of the elements [N]."""
        weights = iter(self.weights)
        outputs = []
        for block in self.blocks:
            if isinstance(block, int):
                outputs.append(atoms.new_zeros((atoms.shape[0], block)))
                continue
            part, channels, size = block
            weight = next(weights)
            mixed = torch.bmm(weight[species], atoms[:, part].unflatten(1, (channels, size)))
            outputs.append(mixed.flatten(1) * (channels * weight.shape[0]) ** -0.5)
        return torch.cat(outputs, dim=1)


class _BlockProduct(nn.Module):
    """The product of one block of channels that transform alike; `columns` has 2l' + 1 for each path."""

    coupling: Tensor
    repeat: Tensor

    def __init__(self, channels: int, size: int, coupling: Tensor, columns: list[int]) -> None:
        super().__init__()
        self.shape, self.columns = (channels, size), columns
        repeat = torch.repeat_interleave(torch.eye(len(columns)), torch.tensor(columns), dim=1)
        self.register_buffer("coupling", coupling, persistent=False)
        self.register_buffer("repeat", repeat, persistent=False)

    def forward(self, sent: Tensor, harmonics: Tensor, weights: Tensor) -> Tensor:
        """[E, channels, sum of columns]."""
        matrix = (harmonics @ self.coupling.flatten(1)).unflatten(1, self.coupling.shape[1:])
        # A product with zeros and ones is many times faster than an index, backward above all.
        for_columns = weights.unflatten(1, (self.shape[0], len(self.columns))) @ self.repeat
        return torch.bmm(sent.unflatten(1, self.shape), matrix) * for_columns


class BondProduct(nn.Module):
    """The product of channels with the harmonics of bonds, e3nn's "uvu", summed over the bonds of each atom.

    ``y_i = sum_j sum_l w_p(ij) [x_j (x) Y_l(u_ij)]_p`` for each path p and channel

    e3nn has several operations for each of up to 90 paths; here the harmonics are turned into one matrix for each block
    of channels.

    Args:
        irreps_in: of the atoms.
        irreps_bond: harmonics of the bonds, each once.
        irreps_out: what may come out.
    """

    def __init__(self, irreps_in: Any, irreps_bond: Any, irreps_out: Any) -> None:
        super().__init__()
        o3 = optional_import("e3nn.o3", extra="accuracy", purpose="train the baseline MatTen")
        self.widths = [part.stop - part.start for part in irreps_in.slices()]
        self.split_weights: list[int] = []
        self.blocks = nn.ModuleList()
        products = []
        for channels, one in irreps_in:
            couplings, columns = [], []
            for harmonic, (_, other) in zip(irreps_bond.slices(), irreps_bond, strict=True):
                for irrep in one * other:
                    if irrep in irreps_out:
                        coupling = torch.zeros(irreps_bond.dim, one.dim, irrep.dim)
                        # Outputs of order 1 in every component.
                        coupling[harmonic] = irrep.dim**0.5 * o3.wigner_3j(one.l, other.l, irrep.l).transpose(0, 1)
                        couplings.append(coupling)
                        columns.append(irrep.dim)
                        products.append((channels, irrep))
            self.split_weights.append(channels * len(columns))
            self.blocks.append(_BlockProduct(channels, one.dim, torch.cat(couplings, dim=2), columns))
        self.num_weights = sum(self.split_weights)
        ordered, places, _ = o3.Irreps(products).sort()
        self.irreps_out = ordered.simplify()
        self.order = sorted(range(len(places)), key=places.__getitem__)  # each kind in one piece

    def forward(self, atoms: Tensor, harmonics: Tensor, weights: Tensor, graph: BondGraph) -> Tensor:
        """Sums at the atoms.

        Args:
            atoms: features. [N, irreps_in.dim].
            harmonics: [E, irreps_bond.dim].
            weights: for each block channels times paths. [E, num_weights].
            graph: with the bonds.

        Returns:
            [N, irreps_out.dim].
        """
        sent = atom_to_bond_gather(atoms, graph.pairs, graph.row_ptr, "neighbor").split(self.widths, dim=1)
        sums: list[Tensor] = []
        for block, features, weight in zip(self.blocks, sent, weights.split(self.split_weights, dim=1), strict=True):
            messages = block(features, harmonics, weight)
            sums += bond_to_atom_sum(messages, graph.pairs, graph.row_ptr).split(block.columns, dim=2)
        return torch.cat([sums[index].flatten(1) for index in self.order], dim=1)

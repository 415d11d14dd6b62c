# SPDX-License-Identifier: MIT
"""The two maps of a MatTen layer in few and large operations; the tests compare them with e3nn's."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from dtnn_fast.errors import optional_import
from dtnn_fast.ops import atom_to_bond_gather, bond_to_atom_sum

from .bond_product import Block, CompiledProduct
from .graphs import BondGraph


class SpeciesLinear(nn.Module):
    """Linear maps among channels of the same irrep, with separate weights for each element.

    ``y_w = sum_u W[z]_uw x_u / sqrt(channels in * elements)``

    This is e3nn's fully connected product with the one-hot vector of the element, normalisation included.

    Args:
        irreps_in: e3nn's irreps of the input, each kind once.
        irreps_out: irreps of the output; kinds that the input lacks come out as zeros.
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


class Couplings(nn.Module):
    """What the harmonics of bonds make of an atom's irreps of degree l, for all paths to degrees up to a largest one.

    ``table_l[k m] = sqrt(2l' + 1) sum_n C[m n k] Y_n`` for k = -l' ... l' of each path (harmonic, l')

    They depend on no weights, so that all layers share them.

    Args:
        irreps_bond: harmonics of the bonds, of degree 0, 1, 2, ..., each once.
        largest: largest degree before and after.
    """

    def __init__(self, irreps_bond: Any, largest: int) -> None:
        super().__init__()
        o3 = optional_import("e3nn.o3", extra="accuracy", purpose="train the baseline MatTen")
        self.irreps_bond = irreps_bond
        self.columns: list[dict[tuple[int, int], int]] = []  # first column of each path, by the degree before
        for before in range(largest + 1):
            columns: dict[tuple[int, int], int] = {}
            parts, width = [], 0
            for harmonic, (_, bond) in zip(irreps_bond.slices(), irreps_bond, strict=True):
                for after in range(abs(before - bond.l), min(before + bond.l, largest) + 1):
                    part = torch.zeros(irreps_bond.dim, 2 * after + 1, 2 * before + 1)
                    # Outputs of order 1 in every component.
                    part[harmonic] = (2 * after + 1) ** 0.5 * o3.wigner_3j(before, bond.l, after).permute(1, 2, 0)
                    parts.append(part)
                    columns[bond.l, after] = width
                    width += 2 * after + 1
            self.columns.append(columns)
            self.register_buffer(f"coupling_{before}", torch.cat(parts, dim=1), persistent=False)

    def forward(self, harmonics: Tensor) -> list[Tensor]:
        """[E, columns, 2l + 1] for each degree l."""
        couplings = [cast(Tensor, self.get_buffer(f"coupling_{before}")) for before in range(len(self.columns))]
        return [(harmonics @ c.flatten(1)).unflatten(1, c.shape[1:]) for c in couplings]


class _BlockProduct(nn.Module):
    """The product of one block of channels of the same irrep, summed at the atoms."""

    repeat: Tensor
    columns: Tensor

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block
        sizes = torch.tensor(block.sizes, dtype=torch.int64)
        self.register_buffer("repeat", torch.repeat_interleave(torch.eye(len(sizes)), sizes, dim=1), persistent=False)
        columns = [start + k for start, size in zip(block.starts, block.sizes, strict=True) for k in range(size)]
        self.register_buffer("columns", torch.tensor(columns, dtype=torch.int64), persistent=False)

    def forward(self, atoms: Tensor, table: Tensor, weights: Tensor, graph: BondGraph) -> list[Tensor]:
        """[N, channels, size] for each path, from atoms [N, channels, 2l + 1] and weights [E, paths, channels]."""
        if not self.block.sizes:
            return []
        sent = atom_to_bond_gather(atoms, graph.pairs, graph.row_ptr, "neighbor")
        # A product with zeros and ones is many times faster than an index, backward above all.
        messages = torch.bmm(sent, table[:, self.columns].mT) * (weights.mT @ self.repeat)
        return list(bond_to_atom_sum(messages, graph.pairs, graph.row_ptr).split(self.block.sizes, dim=2))


class BondProduct(nn.Module):
    """The product of channels with the harmonics of bonds, e3nn's "uvu", summed over the bonds of each atom.

    ``y_i = sum_j sum_l w_p(ij) [x_j (x) Y_l(u_ij)]_p`` for each path p and channel

    e3nn has several operations for each of up to 90 paths; here the harmonics are turned into one matrix for each block
    of channels, or all paths are taken in one pass of compiled code.

    Args:
        irreps_in: irreps of the atoms.
        couplings: couplings with the harmonics of the bonds.
        irreps_out: irreps of the result; those that no path reaches are left out.
    """

    def __init__(self, irreps_in: Any, couplings: Couplings, irreps_out: Any) -> None:
        super().__init__()
        o3 = optional_import("e3nn.o3", extra="accuracy", purpose="train the baseline MatTen")
        self.compiled: CompiledProduct | None = None
        self.widths = [part.stop - part.start for part in irreps_in.slices()]
        self.shapes = [(channels, irrep.dim) for channels, irrep in irreps_in]
        self.blocks = nn.ModuleList()
        products = []
        for channels, irrep_in in irreps_in:
            found = [
                (couplings.columns[irrep_in.l][irrep_bond.l, irrep.l], irrep)
                for _, irrep_bond in couplings.irreps_bond
                for irrep in irrep_in * irrep_bond
                if irrep in irreps_out
            ]
            products += [(channels, irrep) for _, irrep in found]
            block = Block(
                irrep_in.l, channels, tuple(start for start, _ in found), tuple(irrep.dim for _, irrep in found)
            )
            self.blocks.append(_BlockProduct(block))
        self.split_weights = [len(part.block.sizes) * part.block.channels for part in self._parts()]
        self.num_weights = sum(self.split_weights)
        ordered, places, _ = o3.Irreps(products).sort()
        self.irreps_out = ordered.simplify()
        self.order = sorted(range(len(places)), key=places.__getitem__)  # each kind in one piece

    def _parts(self) -> list[_BlockProduct]:
        return [cast(_BlockProduct, part) for part in self.blocks]

    def forward(self, atoms: Tensor, tables: list[Tensor], weights: Tensor, graph: BondGraph) -> Tensor:
        """Sums at the atoms.

        Args:
            atoms: features. [N, irreps_in.dim].
            tables: what `Couplings` gives.
            weights: for each block paths times channels. [E, num_weights].
            graph: graph with the bonds.

        Returns:
            [N, irreps_out.dim].
        """
        features = [
            part.unflatten(1, shape) for part, shape in zip(atoms.split(self.widths, dim=1), self.shapes, strict=True)
        ]
        sums: list[Tensor] = []
        if self.compiled is not None:
            sums = self.compiled([part.block for part in self._parts()], features, tables, weights, graph)
        else:
            for part, those, weight in zip(
                self._parts(), features, weights.split(self.split_weights, dim=1), strict=True
            ):
                each = weight.unflatten(1, (-1, part.block.channels))
                sums += part(those, tables[part.block.degree], each, graph)
        return torch.cat([sums[index].flatten(1) for index in self.order], dim=1)

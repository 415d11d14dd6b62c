# SPDX-License-Identifier: MIT
"""A small interatomic potential that uses every operation and compiles in seconds."""

from __future__ import annotations

import torch
from op_cases import Batch
from torch import Tensor, nn

from dtnn_fast import ops

CHANNELS = 4


class Potential(nn.Module):
    """Energies of crystals from scalars, vectors and rank-2 tensors on the atoms."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        sizes = {"radial": (CHANNELS, 1), "vector": (CHANNELS, CHANNELS), "rank2": (CHANNELS, CHANNELS)}
        sizes |= {"gate": (CHANNELS, CHANNELS), "bond": (CHANNELS, CHANNELS)}
        for name, size in sizes.items():
            weight = torch.randn(size, dtype=torch.float64, generator=generator)
            self.register_parameter(name, nn.Parameter(0.5 * weight / size[1] ** 0.5))

    def forward(self, positions: Tensor, cell: Tensor, ptr: Tensor, pairs: Tensor, shifts: Tensor, row_ptr: Tensor,
                order: Tensor, order_ptr: Tensor) -> Tensor:  # fmt: skip
        """Compute the energies. [B]"""
        by_neighbor = ops.NeighborOrder(order, order_ptr)
        d = ops.bond_vectors(positions, cell, pairs, shifts, ptr)
        squared = (d * d).sum(1, keepdim=True)
        radial = torch.exp(-0.3 * squared @ self.radial.t().abs())
        outward = radial.unsqueeze(1) * d.unsqueeze(2)
        vector = ops.bond_to_atom_sum(outward, pairs, row_ptr, "difference", by_neighbor)
        vector, length = ops.rank2_linear(vector, self.vector, norm=True, eps=0.1)
        at_bonds = ops.atom_to_bond_gather(vector, pairs, row_ptr, "sum", by_neighbor)
        x, y, z = d.unsqueeze(2).unbind(1)
        square = torch.stack([x * x, y * y, z * z, y * z, x * z, x * y], 1) * radial.unsqueeze(1)
        square = square * ops.rank2_linear(at_bonds, self.bond).square().sum(1, keepdim=True).tanh()
        rank2 = ops.bond_to_atom_sum(square, pairs, row_ptr, "sum", by_neighbor)
        rank2 = ops.rank2_gate(rank2, length @ self.gate, self.rank2, rank2)
        tensor = ops.tensor_readout(length, vector, rank2, ptr)
        return 0.01 * (tensor * torch.arange(9.0, dtype=tensor.dtype, device=tensor.device).view(3, 3)).sum((1, 2))


def inputs_of(b: Batch) -> tuple[Tensor, ...]:
    """Return the potential's arguments for a batch."""
    return b.positions, b.cell, b.ptr, b.pairs, b.shifts, b.row_ptr, b.order, b.order_ptr

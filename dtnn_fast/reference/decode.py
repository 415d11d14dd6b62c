# SPDX-License-Identifier: MIT
"""Reference implementation of `decode`: one member after the other, in torch's operations."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import silu

from ..ops._bond_ends import add_rows
from ._flat_weights import FlatWeights
from .rank2_gate import rank2_gate
from .rank2_linear import smooth_norm

_EPS = 0.01
# Place of the elements of a 3x3 matrix among xx yy zz yz xz xy.
_SIX = (0, 5, 4, 5, 1, 3, 4, 3, 2)


def decode(
    scalar: Tensor,
    vector: Tensor,
    rank2: Tensor,
    weights: Tensor,
    ptr: Tensor,
    bond_vector: Tensor | None = None,
    bond_sums: Tensor | None = None,
    envelope_sum: Tensor | None = None,
    masks: Tensor | None = None,
    atom_share: Tensor | None = None,
    *,
    blocks: int,
    latent: int,
    readouts: int,
    residual: bool = True,
) -> Tensor:
    """Apply the blocks and readouts of each member; see `dtnn_fast.ops.decode`."""
    counts = ptr.diff()
    crystal = torch.repeat_interleave(torch.arange(len(counts), device=ptr.device), counts, output_size=len(scalar))
    share = counts.to(scalar.dtype).reciprocal()[crystal] if atom_share is None else atom_share
    members = []
    for index, flat in enumerate(weights):
        taken = FlatWeights(flat)
        mask: Iterator[Tensor] = iter(() if masks is None else masks[index])
        atoms = scalar, vector, rank2
        for block in range(blocks):
            bonds = None
            if bond_vector is not None and bond_sums is not None and envelope_sum is not None:
                sums = torch.cat([bond_sums[index * blocks + block], envelope_sum.unsqueeze(1)], dim=1)
                bonds = bond_vector, sums
            atoms = _block(atoms, bonds, taken, mask, latent, residual)
        tensors = torch.stack([_readout(atoms, taken, mask, latent) for _ in range(readouts)])
        weighted = share[:, None] * tensors
        members.append(
            add_rows(weighted.new_zeros(len(counts), readouts, 6), crystal, weighted.transpose(0, 1)).transpose(0, 1)
        )
    six = torch.stack(members) if members else scalar.new_zeros(0, readouts, len(counts), 6)
    return six[..., _SIX].unflatten(-1, (3, 3))


def _hidden(x: Tensor, taken: FlatWeights, mask: Iterator[Tensor], latent: int) -> Tensor:
    hidden = silu(x @ taken.matrix(x.shape[-1], latent) + taken.vector(latent))
    return hidden * next(mask, 1)


def _block(
    atoms: tuple[Tensor, Tensor, Tensor],
    bonds: tuple[Tensor, Tensor] | None,
    taken: FlatWeights,
    mask: Iterator[Tensor],
    latent: int,
    residual: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    scalar, vector, rank2 = atoms
    hidden = _hidden(_hidden(scalar, taken, mask, latent), taken, mask, latent)
    scalar = hidden @ taken.matrix(latent, latent) + taken.vector(latent)
    if bonds is not None:
        bond_vector, sums = bonds
        scalar = scalar + sums @ taken.matrix(latent + 1, latent)
        vector = torch.cat([vector, bond_vector], dim=-1)
    rank2 = rank2 @ taken.matrix(rank2.shape[-1], latent)
    vector = vector @ taken.matrix(vector.shape[-1], latent)
    invariants = torch.cat([scalar, smooth_norm(vector, _EPS), smooth_norm(rank2, _EPS)], dim=-1)
    mixed = _hidden(invariants, taken, mask, latent) @ taken.matrix(latent, 3 * latent) + taken.vector(3 * latent)
    change, vector_gate, rank2_gate_ = mixed.split(latent, dim=-1)
    return (
        scalar + change if residual else change,
        rank2_gate(vector, vector_gate, taken.matrix(latent, latent).t(), vector if residual else None),
        rank2_gate(rank2, rank2_gate_, taken.matrix(latent, latent).t(), rank2 if residual else None),
    )


def _readout(atoms: tuple[Tensor, Tensor, Tensor], taken: FlatWeights, mask: Iterator[Tensor], latent: int) -> Tensor:
    """Compute the six components of each atom's tensor. [N, 6]."""
    scalar, vector, rank2 = atoms
    value, gate = (_hidden(scalar, taken, mask, latent) @ taken.matrix(latent, 1) + taken.vector(1) for _ in range(2))
    x, y, z = (vector @ taken.matrix(vector.shape[-1], 1)).squeeze(-1).unbind(1)
    dyad = torch.stack([x * x, y * y, z * z, y * z, x * z, x * y], dim=1)
    isotropic = value * torch.sigmoid(gate)
    six = dyad + (rank2 @ taken.matrix(rank2.shape[-1], 1)).squeeze(-1)
    return six + torch.cat([isotropic, isotropic, isotropic, *[torch.zeros_like(isotropic)] * 3], dim=1)

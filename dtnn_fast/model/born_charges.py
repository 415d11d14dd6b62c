# SPDX-License-Identifier: MIT
"""Born effective charges from the latents of atoms, with the acoustic sum rule.

Z[a, i, j] = (V / e) dP_i / du_aj is the polarisation along i that a displacement of atom a along j makes, times the
volume. It need not be symmetric. The charges of a crystal sum to zero, since moving all atoms together polarises
nothing (R. M. Pick, M. H. Cohen, R. M. Martin, Phys. Rev. B 1, 910 (1970)).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ..nn.latents import AtomOrbits, Channels, Latents
from ..nn.layers import MLP, ChannelMix
from ..nn.symmetric_tensors import cross_matrices, symmetric_matrices
from .decoder import DecoderBlock, DecoderConfig
from .decoder_inputs import AtomInput, BondInput, layer_latents

_PRODUCTS = 16


class BornChargeHead(nn.Module):
    """Born effective charges from the channels of atoms:

    Z = q I + T + sum_c g_c [v_c x w_c]_x + sum_c h_c (A_c B_c - B_c A_c)

    with scalars q, g, h, symmetric tensors T, A, B and vectors v, w of each atom; [a]_x is the matrix of a x. The last
    two sums are the antisymmetric part: products of latents that do not change under inversion, as Z does not.

    Args:
        latent: channels of the scalars, vectors and tensors.
        dropout: probability in the perceptrons.
    """

    def __init__(self, latent: int, dropout: float) -> None:
        super().__init__()
        self.charge = MLP((latent, latent, 1), dropout)
        self.symmetric = ChannelMix(latent, 1)
        self.gates = MLP((latent, latent, 2 * _PRODUCTS), dropout)
        self.vectors = ChannelMix(latent, 2 * _PRODUCTS)
        self.tensors = ChannelMix(latent, 2 * _PRODUCTS)
        last = cast(nn.Linear, self.gates[-1])
        with torch.no_grad():
            # The antisymmetric part is a tenth of the whole at most, and starts at zero.
            last.weight.zero_()
            last.bias.zero_()

    def charges(
        self, scalar: Tensor, vector: Tensor, rank2: Tensor, ptr: Tensor, orbits: AtomOrbits | None = None
    ) -> Tensor:
        """Compute the charges of atoms, which sum to zero over each crystal.

        Args:
            scalar: [N, C].
            vector: [N, 3, C].
            rank2: [N, 6, C].
            ptr: crystal b owns the atoms ``ptr[b]:ptr[b + 1]``. [B+1].
            orbits: what the atoms stand for; None where every atom stands for itself. With orbits, the sum rule holds
                for the symmetric part alone: they do not say how antisymmetric parts of equivalent atoms add up.

        Returns:
            Z[atom, field, displacement]. [N, 3, 3], e.
        """
        identity = torch.eye(3, dtype=scalar.dtype, device=scalar.device)
        symmetric = self.charge(scalar).unsqueeze(-1) * identity + symmetric_matrices(self.symmetric(rank2)).squeeze(1)
        return without_mean(symmetric, ptr, orbits) + self._antisymmetric(scalar, vector, rank2, ptr, orbits)

    def _antisymmetric(
        self, scalar: Tensor, vector: Tensor, rank2: Tensor, ptr: Tensor, orbits: AtomOrbits | None
    ) -> Tensor:
        """Antisymmetric parts of the charges. [N, 3, 3]."""
        vector_gate, tensor_gate = self.gates(scalar).chunk(2, dim=-1)
        left, right = self.vectors(vector).chunk(2, dim=-1)
        axis = (vector_gate.unsqueeze(1) * torch.linalg.cross(left, right, dim=1)).sum(-1)
        first, second = (symmetric_matrices(part) for part in self.tensors(rank2).chunk(2, dim=-1))
        product = (tensor_gate[..., None, None] * (first @ second)).sum(1)
        antisymmetric = cross_matrices(axis) + product - product.transpose(1, 2)
        return antisymmetric if orbits is not None else without_mean(antisymmetric, ptr)


class BornChargeReadout(BornChargeHead):
    """Readout of Born effective charges: a decoder's block on the latents, and a `BornChargeHead` on its channels.

    Args:
        config: settings of the decoder, of which one block is built.
        channels: channels of the encoder's latents.
        bonds: channels of the bond latents; None for those of the atoms.
    """

    def __init__(self, config: DecoderConfig, channels: Channels, bonds: Channels | None = None) -> None:
        super().__init__(config.latent, config.dropout)
        self.config = config
        self.atom_input = AtomInput(channels, config.layers)
        self.block = DecoderBlock(config, self.atom_input.channels, bonds or channels)

    def forward(self, latents: Sequence[Latents | None], ptr: Tensor, orbits: AtomOrbits | None = None) -> Tensor:
        """Compute the charges of atoms; see `BornChargeHead.charges`.

        Args:
            latents: latents of the encoder's layers, from the first; None for layers that are not read.
            ptr: crystal b owns the atoms ``ptr[b]:ptr[b + 1]``. [B+1].
            orbits: what the atoms stand for; None where every atom stands for itself.

        Returns:
            Z[atom, field, displacement]. [N, 3, 3], e.
        """
        bonds = BondInput.from_latents(layer_latents(latents, self.config.layer)) if self.config.bonds else None
        scalar, vector, rank2 = self.block(*self.atom_input(latents), bonds)
        return self.charges(scalar, vector, rank2, ptr, orbits)


def without_mean(charges: Tensor, ptr: Tensor, orbits: AtomOrbits | None = None) -> Tensor:
    """Subtract from the charges of each crystal their mean over its atoms.

    Args:
        charges: [N, 3, 3]; symmetric with `orbits`.
        ptr: crystal b owns the atoms ``ptr[b]:ptr[b + 1]``. [B+1].
        orbits: what the atoms stand for; None where every atom stands for itself.

    Returns:
        Charges that sum to zero, up to rounding. [N, 3, 3].
    """
    sizes = ptr.diff()
    crystal = torch.repeat_interleave(sizes, output_size=charges.shape[0])
    shares = (1.0 / sizes.to(charges.dtype))[crystal] if orbits is None else orbits.shares(ptr)
    zero = charges.new_zeros(sizes.shape[0], 9)
    means = zero.index_add(0, crystal, shares.unsqueeze(1) * charges.flatten(1)).unflatten(1, (3, 3))
    if orbits is not None:
        means = orbits.projected(means)
    return charges - means[crystal]

# SPDX-License-Identifier: MIT
"""The decoder of arXiv 2405.09052: from the latents of one encoder layer to the dielectric tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..encoders.latents import Latents
from ..encoders.native_layer import Channels
from ..ops import bond_to_atom_sum, tensor_readout
from .graph import BondTier
from .layers import MLP, ChannelMix, GatedMix, Linear
from .radial import smooth_cutoff


@dataclass(frozen=True)
class DecoderConfig:
    """Settings of `Decoder`; the defaults are the paper's.

    Args:
        layer: the encoder layer n whose latents are used, 1 to 5; 5 takes scalars and bonds of layer 5, and vectors and
            tensors of layer 4.
        blocks: number of blocks.
        latent: channels inside the decoder.
        dropout: probability in the perceptrons of atoms.
        bonds: whether bond latents are used; without them it is the paper's DTNN-simple.
        residual: whether blocks add their input to their output.
        mean_bonds: mean number of bonds of an atom in the layer's list, which scales the sums over bonds; `DTNN` takes
            the encoder's instead.

    Raises:
        ValueError: a setting is out of range.
    """

    layer: int = 4
    blocks: int = 2
    latent: int = 128
    dropout: float = 0.2
    bonds: bool = True
    residual: bool = True
    mean_bonds: float = 48.0

    def __post_init__(self) -> None:
        if self.blocks < 0 or self.latent < 1 or not 0 <= self.dropout < 1 or self.mean_bonds <= 0:
            raise ValueError(
                f"DecoderConfig: expected `blocks` of 0 or more, `latent` of 1 or more, `dropout` in [0, 1) and "
                f"`mean_bonds` above 0, got {self}"
            )

    @property
    def layers(self) -> tuple[int, ...]:
        """The encoder layers whose latents are read."""
        return (4, 5) if self.layer == 5 else (self.layer,)

    def to_json(self) -> dict[str, Any]:
        """As plain values, for a JSON file."""
        return asdict(self)


class BondInput(NamedTuple):
    """What the blocks take from the bonds; both blocks use the same.

    Args:
        scalar: bond scalars. [E, Cs].
        envelope: the smooth cutoff. [E, 1].
        summed_vector: bond vectors away from each atom, summed over its bonds. [N, 3, Cv].
        tier: the bonds.
    """

    scalar: Tensor
    envelope: Tensor
    summed_vector: Tensor
    tier: BondTier

    @classmethod
    def of(cls, latents: Latents) -> BondInput:
        """From the latents of a layer.

        Raises:
            ValueError: they have no bonds.
        """
        scalar, vector, length, tier = latents[3:]
        if scalar is None or vector is None or length is None or tier is None:
            raise ValueError("Decoder: expected latents with bonds; use DTNN-simple (bonds=False) with this encoder")
        envelope = smooth_cutoff(length, tier.cutoff).unsqueeze(-1)
        # Away from the atom: as stored at the center, reversed at the neighbor.
        summed = -bond_to_atom_sum(vector, tier.pairs, tier.row_ptr, "difference", tier.by_neighbor)
        return cls(scalar, envelope, summed, tier)


def _latents_of(latents: Sequence[Latents | None], layer: int) -> Latents:
    taken = latents[layer - 1] if 1 <= layer <= len(latents) else None
    if taken is None:
        raise ValueError(f"Decoder: expected latents of layer {layer}, got {len(latents)} layers without it")
    return taken


def take_layer(latents: Sequence[Latents | None], layer: int) -> Latents:
    """The latents that a decoder of this layer reads: 5 has the vectors and tensors of layer 4.

    Raises:
        ValueError: they are missing.
    """
    taken = _latents_of(latents, layer)
    if layer == 5:
        before = _latents_of(latents, 4)
        taken = taken._replace(atom_vector=before.atom_vector, atom_rank2=before.atom_rank2)
    return taken


class DecoderBlock(nn.Module):
    """One block: bonds into atoms, scalars mixed with the norms of vectors and tensors, gates (Eq. 8 to 11, 17 to 26).

    Args:
        config: settings of the decoder.
        inputs: channels of scalars, vectors and tensors that come in.
        bonds: channels of the bond latents.
    """

    def __init__(self, config: DecoderConfig, inputs: Channels, bonds: Channels) -> None:
        super().__init__()
        latent, drop = config.latent, config.dropout
        self.residual = config.residual
        self.bond_scale = 1.0 / math.sqrt(config.mean_bonds)
        self.scalar_in = MLP((inputs.scalar, latent, latent, latent), drop)
        self.rank2_in = ChannelMix(inputs.rank2, latent)
        vectors = inputs.vector
        if config.bonds:
            # The last linear layer of the bond perceptron commutes with the sum over bonds, so it comes after the sum,
            # once per atom instead of once per bond; its bias is summed with the bonds' envelopes. No dropout here:
            # over some fifty bonds of an atom it averages out, and drawing it took a sixth of the training time.
            self.bond_hidden = nn.Sequential(MLP((bonds.scalar, latent, latent)), nn.SiLU())
            self.bond_out = Linear(latent + 1, latent, bias=False)
            vectors += bonds.vector
        # L a_v + sum L_b b_v = [L L_b] [a_v; sum b_v]: one product after the sum.
        self.vector_in = ChannelMix(vectors, latent)
        self.mix = MLP((3 * latent, latent, 3 * latent), drop)
        self.vector_out = GatedMix(latent, config.residual)
        self.rank2_out = GatedMix(latent, config.residual)

    def forward(
        self, scalar: Tensor, vector: Tensor, rank2: Tensor, bonds: BondInput | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Scalars [N, C], vectors [N, 3, C], tensors [N, 6, C] and bonds to the same with the latent channels."""
        scalar = self.scalar_in(scalar)
        if bonds is not None:
            scalar = scalar + self._bond_scalars(bonds)
            vector = torch.cat([vector, self.bond_scale * bonds.summed_vector], dim=-1)
        vector, vector_norm = self.vector_in.with_norm(vector)
        rank2, rank2_norm = self.rank2_in.with_norm(rank2)
        mixed = self.mix(torch.cat([scalar, vector_norm, rank2_norm], dim=-1))
        change, vector_gate, rank2_gate = mixed.chunk(3, dim=-1)
        scalar = scalar + change if self.residual else change
        return scalar, self.vector_out(vector, vector_gate), self.rank2_out(rank2, rank2_gate)

    def _bond_scalars(self, bonds: BondInput) -> Tensor:
        tier = bonds.tier
        weighted = torch.cat([bonds.envelope * self.bond_hidden(bonds.scalar), bonds.envelope], dim=-1)
        summed = bond_to_atom_sum(weighted, tier.pairs, tier.row_ptr, "sum", tier.by_neighbor)
        return self.bond_out(self.bond_scale * summed)


class Decoder(nn.Module):
    """Blocks and the readout; the result is symmetric and rotates with the crystal.

    Args:
        config: settings.
        channels: channels of the encoder's latents.
        bonds: channels of its bond latents; None where they are those of the atoms.
    """

    def __init__(self, config: DecoderConfig, channels: Channels, bonds: Channels | None = None) -> None:
        super().__init__()
        self.config = config
        latent = config.latent
        inner = Channels(latent, latent, latent)
        self.blocks = nn.ModuleList(
            DecoderBlock(config, inner if index else channels, bonds or channels) for index in range(config.blocks)
        )
        width = latent if config.blocks else channels.scalar
        self.scalar_value = MLP((width, latent, 1), config.dropout)
        self.scalar_gate = MLP((width, latent, 1), config.dropout)
        self.vector_readout = ChannelMix(latent if config.blocks else channels.vector, 1)
        self.rank2_readout = ChannelMix(latent if config.blocks else channels.rank2, 1)
        # Tensors leave in units of `scale` around `offset` times the unit tensor: set from the training set.
        self.offset: Tensor
        self.scale: Tensor
        self.register_buffer("offset", torch.tensor(0.0))
        self.register_buffer("scale", torch.tensor(1.0))

    def set_range(self, offset: float, scale: float) -> None:
        """Let the untrained decoder start where the training tensors lie: `offset` on the diagonal, spread `scale`."""
        self.offset.fill_(offset)
        self.scale.fill_(scale)

    def forward(self, latents: Sequence[Latents | None], ptr: Tensor) -> Tensor:
        """The dielectric tensor of each crystal.

        epsilon = mean over atoms of (a_s' I + a_v' (x) a_v' + a_t')      (Eq. 27)

        Args:
            latents: of the encoder's layers, from the first; those that are not read may be None.
            ptr: crystal b owns the atoms ``ptr[b]:ptr[b + 1]``. [B+1].

        Returns:
            [B, 3, 3].

        Raises:
            ValueError: latents of a layer that is read are missing, or there are no bond latents.
        """
        taken = take_layer(latents, self.config.layer)
        bonds = BondInput.of(taken) if self.config.bonds else None
        scalar, vector, rank2 = taken.atom_scalar, taken.atom_vector, taken.atom_rank2
        for block in self.blocks:
            scalar, vector, rank2 = block(scalar, vector, rank2, bonds)
        atom_scalar = self.scalar_value(scalar) * torch.sigmoid(self.scalar_gate(scalar))  # Eq. 12
        tensors = tensor_readout(atom_scalar, self.vector_readout(vector), self.rank2_readout(rank2), ptr)
        identity = torch.eye(3, dtype=tensors.dtype, device=tensors.device)
        return self.offset * identity + self.scale * tensors

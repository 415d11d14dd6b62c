# SPDX-License-Identifier: MIT
"""The decoder of arXiv 2405.09052: from the latents of one encoder layer to the dielectric tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..nn.bond_ends import sum_at_ends
from ..nn.latents import AtomOrbits, Channels, Latents
from ..nn.layers import MLP, ChannelMix, GatedMix, Linear
from ..ops import tensor_readout
from .decoder_inputs import AtomInput, BondInput, layer_latents, vector_layers
from .tensor_range import TensorRange

# Smallest principal value that physics allows: vacuum has 1, to which electrons and ions can only add.
BOUNDS = {"electronic": 1.0, "ionic": 0.0, "total": 1.0}


@dataclass(frozen=True)
class DecoderConfig:
    """Settings of `Decoder`.

    Args:
        layer: the encoder layer whose latents are read, 1 to 5; 5 reads scalars and bonds of layer 5, and vectors and
            tensors of layer 4.
        more_layers: lower layers whose latents of atoms are read too, in rising order.
        blocks: number of blocks.
        latent: channels inside the decoder.
        dropout: probability in the perceptrons of atoms.
        bonds: whether bond latents are read; without them the model is the paper's DTNN-simple.
        residual: whether blocks add their input to their output.
        joint: whether one decoder serves all targets: its blocks are shared, the electronic and the ionic tensor have
            readouts, and the total tensor is their sum.
        positive: targets whose tensors are positive definite by construction: the ionic tensor, and the other tensors
            minus the unit tensor.
        mean_bonds: mean number of bonds of an atom in the layer's list, which scales the sums over bonds; `DTNN`
            replaces it by the encoder's number.

    Raises:
        ValueError: a setting is out of range.
    """

    layer: int = 4
    more_layers: tuple[int, ...] = ()
    blocks: int = 2
    latent: int = 128
    dropout: float = 0.2
    bonds: bool = True
    residual: bool = True
    joint: bool = False
    positive: tuple[str, ...] = ()
    mean_bonds: float = 48.0

    def __post_init__(self) -> None:
        if self.blocks < 0 or self.latent < 1 or not 0 <= self.dropout < 1 or self.mean_bonds <= 0:
            raise ValueError(
                f"DecoderConfig: expected `blocks` of 0 or more, `latent` of 1 or more, `dropout` in [0, 1) and "
                f"`mean_bonds` above 0, got {self}"
            )
        order = (0, *self.more_layers, self.layer)
        if not set(self.positive) <= BOUNDS.keys():
            raise ValueError(
                f"DecoderConfig: expected `positive` of {', '.join(BOUNDS)}, got {', '.join(map(str, self.positive))}"
            )
        if self.more_layers and list(order) != sorted(set(order)):
            raise ValueError(
                f"DecoderConfig: expected `more_layers` that rise from 1 or more and stay below `layer`, got "
                f"{list(self.more_layers)} with {self.layer}"
            )

    @property
    def layers(self) -> tuple[int, ...]:
        """Encoder layers whose scalars are read, in rising order."""
        return (*self.more_layers, self.layer)

    @property
    def kept_layers(self) -> tuple[int, ...]:
        """All encoder layers that are read, in rising order."""
        return tuple(sorted({*self.layers, *vector_layers(self.layers)}))

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain values, for a JSON file."""
        return asdict(self)


class DecoderBlock(nn.Module):
    """One block: bonds into atoms, scalars mixed with the norms of vectors and tensors, gates (Eq. 8 to 11, 17 to 26).

    Args:
        config: settings of the decoder.
        inputs: channels of the scalars, vectors and tensors that it receives.
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
            # The last linear layer of the bond perceptron commutes with the sum over bonds. So it comes after the sum,
            # once per atom instead of once per bond; its bias is summed with the bonds' envelopes. No dropout here:
            # it averages out over some fifty bonds of an atom, and drawing it took a sixth of the training time.
            self.bond_hidden = nn.Sequential(MLP((bonds.scalar, latent, latent)), nn.SiLU())
            self.bond_out = Linear(latent + 1, latent, bias=False)
            vectors += bonds.vector
            self.bond_vectors = bonds.vector
        # L a_v + sum L_b b_v = [L L_b] [a_v; sum b_v]: one product after the sum.
        self.vector_in = ChannelMix(vectors, latent)
        self.mix = MLP((3 * latent, latent, 3 * latent), drop)
        self.vector_out = GatedMix(latent, config.residual)
        self.rank2_out = GatedMix(latent, config.residual)

    def forward(
        self, scalar: Tensor, vector: Tensor, rank2: Tensor, bonds: BondInput | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Map scalars [N, C], vectors [N, 3, C] and tensors [N, 6, C] to the latent channels, with the bonds added."""
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
        weighted = torch.cat([bonds.envelope * self.bond_hidden(bonds.scalar), bonds.envelope], dim=-1)
        return self.bond_out(self.bond_scale * sum_at_ends(weighted, bonds.tier, "sum"))


class Readout(nn.Module):
    """Readout of a target: from the channels of atoms to a tensor for each crystal.

    epsilon = offset I + scale T,  T = mean over atoms of (a_s' I + a_v' (x) a_v' + a_t')      (Eq. 27)

    In the positive definite form, with b the smallest principal value that physics allows,
    epsilon = b I + M^2,  M = m I + scale T / (2 m),  m = sqrt(offset - b), which is the same to first order in T.

    Args:
        channels: channels of the atoms.
        hidden: channels inside the perceptrons.
        dropout: probability in the perceptrons.
        bound: b of the positive definite form; None for the plain form.
    """

    def __init__(self, channels: Channels, hidden: int, dropout: float, bound: float | None = None) -> None:
        super().__init__()
        self.bound = bound
        self.scalar_value = MLP((channels.scalar, hidden, 1), dropout)
        self.scalar_gate = MLP((channels.scalar, hidden, 1), dropout)
        self.vector_readout = ChannelMix(channels.vector, 1)
        self.rank2_readout = ChannelMix(channels.rank2, 1)
        # Range of the results: `scale` around `offset` times the unit tensor, taken from the training set.
        self.offset: Tensor
        self.scale: Tensor
        self.register_buffer("offset", torch.tensor(0.0))
        self.register_buffer("scale", torch.tensor(1.0))

    def set_range(self, offset: float, scale: float) -> None:
        """Set the range where the untrained readout starts: the training tensors' diagonal and its spread."""
        self.offset.fill_(offset)
        self.scale.fill_(scale)

    def forward(
        self, scalar: Tensor, vector: Tensor, rank2: Tensor, ptr: Tensor, orbits: AtomOrbits | None = None
    ) -> Tensor:
        """Read tensors out of the channels of atoms.

        Args:
            scalar: [N, C].
            vector: [N, 3, C].
            rank2: [N, 6, C].
            ptr: crystal b owns the atoms ``ptr[b]:ptr[b + 1]``. [B+1].
            orbits: what the atoms stand for; None where every atom stands for itself.

        Returns:
            [B, 3, 3].
        """
        atom_scalar = self.scalar_value(scalar) * torch.sigmoid(self.scalar_gate(scalar))  # Eq. 12
        atom_vector, atom_rank2 = self.vector_readout(vector), self.rank2_readout(rank2)
        if orbits is None:
            tensors = tensor_readout(atom_scalar, atom_vector, atom_rank2, ptr)
        else:
            # The weights enter through the values, since `tensor_readout` averages with equal weights.
            sizes = ptr.diff()
            share = (orbits.shares(ptr) * torch.repeat_interleave(sizes, sizes, output_size=len(scalar))).unsqueeze(-1)
            root = share.sqrt().unsqueeze(-1)
            tensors = tensor_readout(share * atom_scalar, root * atom_vector, share.unsqueeze(-1) * atom_rank2, ptr)
            tensors = orbits.projected(tensors)
        return TensorRange.of(self.offset, self.scale, self.bound).apply(tensors)


class Decoder(nn.Module):
    """Blocks and a readout for each target; the results are symmetric and rotate with the crystal.

    Args:
        config: settings.
        channels: channels of the encoder's latents.
        targets: names of the readouts.
        bonds: channels of the bond latents; None for those of the atoms.
    """

    def __init__(
        self, config: DecoderConfig, channels: Channels, targets: Sequence[str], bonds: Channels | None = None
    ) -> None:
        super().__init__()
        self.config = config
        # To compare decoders under torch.compile, which makes symbols of the numbers in a dataclass.
        self.settings = repr(config)
        latent = config.latent
        self.atom_input = AtomInput(channels, config.layers)
        inner, outer = Channels(latent, latent, latent), self.atom_input.channels
        self.blocks = nn.ModuleList(
            DecoderBlock(config, inner if index else outer, bonds or channels) for index in range(config.blocks)
        )
        last = inner if config.blocks else outer
        self.readouts = nn.ModuleDict(
            {
                target: Readout(last, latent, config.dropout, BOUNDS[target] if target in config.positive else None)
                for target in targets
            }
        )

    def forward(
        self, latents: Sequence[Latents | None], ptr: Tensor, orbits: AtomOrbits | None = None
    ) -> dict[str, Tensor]:
        """Compute the tensors of each crystal.

        Args:
            latents: latents of the encoder's layers, from the first; None for layers that are not read.
            ptr: crystal b owns the atoms ``ptr[b]:ptr[b + 1]``. [B+1].
            orbits: what the atoms stand for; None where every atom stands for itself.

        Returns:
            [B, 3, 3] for each readout, and for a joint decoder the sum of the two as "total".

        Raises:
            ValueError: latents of a layer that is read are missing, or its bond latents.
        """
        bonds = BondInput.from_latents(layer_latents(latents, self.config.layer)) if self.config.bonds else None
        scalar, vector, rank2 = self.atom_input(latents)
        for block in self.blocks:
            scalar, vector, rank2 = block(scalar, vector, rank2, bonds)
        tensors = {target: readout(scalar, vector, rank2, ptr, orbits) for target, readout in self.readouts.items()}
        if self.config.joint:
            tensors["total"] = tensors["electronic"] + tensors["ionic"]
        return tensors

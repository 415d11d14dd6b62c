# SPDX-License-Identifier: MIT
"""Inputs of a decoder: latents of atoms from one or several layers, brought to one scale, and the bonds of a layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..nn.bond_ends import sum_at_ends
from ..nn.graph import BondTier
from ..nn.latents import Channels, Latents
from ..nn.radial import smooth_cutoff

# Layer 5 of the encoders is read for its scalars and bonds only (arXiv 2405.09052): the gate before it has no vectors.
_LAST_WITH_VECTORS = 4


class BondInput(NamedTuple):
    """Bond latents as the blocks take them; the same for all blocks.

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
    def from_latents(cls, latents: Latents) -> BondInput:
        """Take the bonds from the latents of a layer.

        Raises:
            ValueError: the latents have no bonds.
        """
        scalar, vector, length, tier = latents[3:]
        if scalar is None or vector is None or length is None or tier is None:
            raise ValueError("Decoder: expected latents with bonds; use DTNN-simple (bonds=False) with this encoder")
        envelope = smooth_cutoff(length, tier.cutoff).unsqueeze(-1)
        # Away from the atom: as stored at the center, reversed at the neighbor.
        summed = -sum_at_ends(vector, tier, "difference")
        return cls(scalar, envelope, summed, tier)


def vector_layers(layers: Sequence[int]) -> tuple[int, ...]:
    """Return the layers that give vectors and tensors when `layers` give the scalars."""
    return tuple(dict.fromkeys(min(layer, _LAST_WITH_VECTORS) for layer in layers))


def layer_latents(latents: Sequence[Latents | None], layer: int) -> Latents:
    """Return the latents of one layer, counted from 1.

    Raises:
        ValueError: they are missing.
    """
    taken = latents[layer - 1] if 1 <= layer <= len(latents) else None
    if taken is None:
        raise ValueError(f"Decoder: expected latents of layer {layer}, got {len(latents)} layers without it")
    return taken


def take_layer(latents: Sequence[Latents | None], layer: int) -> Latents:
    """Return the latents that a decoder of one layer reads: layer 5 gets the vectors and tensors of layer 4.

    Raises:
        ValueError: they are missing.
    """
    taken = layer_latents(latents, layer)
    (source,) = vector_layers((layer,))
    before = layer_latents(latents, source)
    return taken._replace(atom_vector=before.atom_vector, atom_rank2=before.atom_rank2)


class AtomInput(nn.Module):
    """Latents of atoms of several layers, side by side, each divided by its size in the training set.

    Latents of different layers of a frozen encoder differ tenfold in size, and an optimiser like Adam would learn from
    them at different speeds.

    Args:
        channels: channels of one layer.
        layers: the layers that are read, counted from 1.
    """

    def __init__(self, channels: Channels, layers: Sequence[int]) -> None:
        super().__init__()
        self.layers, self.vector_layers = tuple(layers), vector_layers(layers)
        scalars, others = len(self.layers), len(self.vector_layers)
        self.channels = Channels(scalars * channels.scalar, others * channels.vector, others * channels.rank2)
        self.scalar_size: Tensor
        self.vector_size: Tensor
        self.rank2_size: Tensor
        self.register_buffer("scalar_size", torch.ones(scalars))
        self.register_buffer("vector_size", torch.ones(others))
        self.register_buffer("rank2_size", torch.ones(others))

    def set_sizes(self, latents: Sequence[Latents | None], atom_weight: Tensor | None = None) -> None:
        """Set the size of each layer to the root mean square of these latents, or to 1 where they are zero.

        Args:
            latents: of the encoder's layers.
            atom_weight: see `CrystalGraph`; None where every atom counts the same. [N].
        """
        for name, layers in (("scalar", self.layers), ("vector", self.vector_layers), ("rank2", self.vector_layers)):
            for place, layer in enumerate(layers):
                values: Tensor = getattr(layer_latents(latents, layer), f"atom_{name}")
                squares = values.square().flatten(1).mean(1)
                mean = squares.mean() if atom_weight is None else (squares @ atom_weight) / atom_weight.sum()
                size = mean.sqrt()
                getattr(self, f"{name}_size")[place] = size if size > 0 else 1.0

    def channel_sizes(self) -> tuple[Tensor, Tensor, Tensor]:
        """Repeat the sizes of the layers for each of their channels: scalars, vectors, tensors. [C] each."""
        sizes = self.scalar_size, self.vector_size, self.rank2_size
        counts = self.channels.scalar, self.channels.vector, self.channels.rank2
        scalar, vector, rank2 = (
            size.unsqueeze(1).expand(len(size), count // len(size)).flatten()
            for size, count in zip(sizes, counts, strict=True)
        )
        return scalar, vector, rank2

    def forward(self, latents: Sequence[Latents | None]) -> tuple[Tensor, Tensor, Tensor]:
        """Join scalars [N, Cs], vectors [N, 3, Cv] and tensors [N, 6, Ct] of all layers along their channels."""

        def joined(name: str, layers: Sequence[int]) -> Tensor:
            sizes = getattr(self, f"{name}_size")
            scaled = [
                getattr(layer_latents(latents, layer), f"atom_{name}") / size
                for layer, size in zip(layers, sizes, strict=True)
            ]
            return scaled[0] if len(scaled) == 1 else torch.cat(scaled, dim=-1)

        return joined("scalar", self.layers), joined("vector", self.vector_layers), joined("rank2", self.vector_layers)

# SPDX-License-Identifier: MIT
"""The native encoder: five message layers with cutoffs from 3 to 6 Angstrom, on the operations of this package.

The state of the atoms starts from a table of electron shells (`subshell_table`), and each `NativeLayer`
(native_layer.py) advances it. The latents of a layer are the state after it, or what a `NativeReadout` makes of that.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from math import inf
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..nn.graph import CrystalGraph
from ..nn.latents import Channels, Latents
from ..nn.layers import MLP, ChannelMix, Linear
from ..nn.symmetric_tensors import norm_squared, square, times_vector, traceless
from ..nn.weight_cache import WeightCache, flat_weights
from ..ops import atom_readout
from .native_layer import BondGeometry, NativeLayer, soft_scale

NUM_ELEMENTS = 118
# Subshells in the order in which Madelung's rule fills them, and the number of electrons that each kind holds.
SUBSHELLS = (
    *("1s", "2s", "2p", "3s", "3p", "4s", "3d", "4p", "5s", "4d", "5p"),
    *("6s", "4f", "5d", "6p", "7s", "5f", "6d", "7p"),
)
_CAPACITY = {"s": 2, "p": 6, "d": 10, "f": 14}


@dataclass(frozen=True)
class NativeEncoderConfig:
    """Settings of `NativeEncoder`.

    Args:
        cutoffs: one per layer, not decreasing. Angstrom.
        mean_bonds: mean number of bonds of an atom in each layer, over the bundled labelled crystals.
        channels: channels of the state.
        bounded_messages: whether the vectors and tensors of atoms enter the messages with a root mean square below 1,
            so that large weights cannot make the state grow from layer to layer.
        readout: numbers of scalars, vectors and rank-2 tensors that are read out of the state of each layer; empty
            where the state itself is the result.

    Raises:
        ValueError: `readout` is neither empty nor three numbers above 0.
    """

    cutoffs: tuple[float, ...] = (3.0, 3.0, 4.0, 6.0, 6.0)
    mean_bonds: tuple[float, ...] = (7.0, 7.0, 16.0, 48.0, 48.0)
    channels: Channels = field(default_factory=Channels)
    bounded_messages: bool = True
    readout: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.readout and (len(self.readout) != 3 or min(self.readout) < 1):
            raise ValueError(f"NativeEncoderConfig: expected `readout` empty or of three sizes, got {self.readout}")

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain values, for a JSON file."""
        return {"kind": "native", **asdict(self)}


class NativeEncoder(nn.Module):
    """Encoder whose latents of every layer are computed from the crystal alone.

    The latents do not depend on the choice of cell, the order of atoms, or the end from which a bond was stored. They
    rotate and reflect with the crystal, and are twice differentiable in positions and cell.

    Args:
        config: settings.
        num_layers: number of layers to build, from the first; None for all.

    Raises:
        ValueError: cutoffs decrease, or are not finite and positive, or `mean_bonds` does not fit them.
    """

    def __init__(self, config: NativeEncoderConfig | None = None, num_layers: int | None = None) -> None:
        super().__init__()
        self.config = config or NativeEncoderConfig()
        cutoffs, mean_bonds = self.config.cutoffs, self.config.mean_bonds
        fits = len(cutoffs) == len(mean_bonds) > 0 and all(0 < value < inf for value in (*cutoffs, *mean_bonds))
        if not fits or list(cutoffs) != sorted(cutoffs):
            raise ValueError(
                "NativeEncoder: expected finite positive `cutoffs` that do not decrease, and as many finite positive "
                f"`mean_bonds`, got {list(cutoffs)} and {list(mean_bonds)}"
            )
        self.num_layers = len(cutoffs) if num_layers is None else num_layers
        # Not a part of saved weights, so loading them fills it again: a module that was on "meta" has lost its values.
        self.elements: Tensor
        self.register_buffer("elements", subshell_table(), persistent=False)
        self.register_load_state_dict_post_hook(_fill_elements)
        self.embedding = Linear(len(SUBSHELLS), self.config.channels.scalar, bias=False)
        self.layers = nn.ModuleList(
            NativeLayer(self.config.channels, mean, self.config.bounded_messages)
            for mean in mean_bonds[: self.num_layers]
        )
        self.readouts = nn.ModuleList(
            NativeReadout(self.config.channels, self.channels) for _ in self.layers if self.config.readout
        )

    @property
    def cutoffs(self) -> tuple[float, ...]:
        """The cutoffs of the layers that were built, in Angstrom."""
        return self.config.cutoffs[: self.num_layers]

    @property
    def channels(self) -> Channels:
        """Channels of the latents of atoms."""
        return Channels(*self.config.readout) if self.config.readout else self.config.channels

    @property
    def bond_channels(self) -> Channels:
        """Channels of the latents of bonds."""
        return self.config.channels

    def first_layers(self, count: int) -> NativeEncoder:
        """Make an encoder of the first layers, which shares their parameters."""
        shorter = NativeEncoder(self.config, count)
        shorter.embedding, shorter.layers, shorter.readouts = self.embedding, self.layers[:count], self.readouts[:count]
        return shorter

    def forward(self, graph: CrystalGraph, all_bonds: bool = True) -> list[Latents]:
        """Compute the latents of the layers 1 ... num_layers, in this order.

        Args:
            graph: crystals, built with at least the cutoffs of this encoder.
            all_bonds: whether every layer's latents have their bonds. Otherwise the last layer's have, and the memory
                of the others is free as soon as the next layer has read them.
        """
        geometry = self._geometry(graph)
        positions, channels = graph.positions, self.config.channels
        atom_scalar = self.embedding(self.elements.index_select(0, graph.atomic_numbers).to(positions.dtype))
        atoms = (
            atom_scalar,
            positions.new_zeros(graph.num_atoms, 3, channels.vector),
            positions.new_zeros(graph.num_atoms, 6, channels.rank2),
        )
        bonds = (positions.new_zeros(0, channels.scalar), positions.new_zeros(0, 3, channels.vector))
        latents: list[Latents] = []
        reached: float | None = None
        for number, (layer, cutoff) in enumerate(zip(self.layers, self.cutoffs, strict=True)):
            if cutoff != reached:
                bonds = self._widen(bonds, geometry[cutoff], first=reached is None)
                reached = cutoff
            atoms, bonds = layer(atoms, bonds, geometry[cutoff])
            read = self.readouts[number](*atoms) if self.readouts else atoms
            if all_bonds or number + 1 == self.num_layers:
                latents.append(Latents._make((*read, *bonds, geometry[cutoff].length, geometry[cutoff].tier)))
            else:
                latents.append(Latents._make((*read, None, None, None, None)))
        return latents

    def _geometry(self, graph: CrystalGraph) -> dict[float, BondGeometry]:
        geometry = {}
        for cutoff in dict.fromkeys(self.cutoffs):
            tier = graph.tier(cutoff)
            geometry[cutoff] = BondGeometry.from_vectors(tier, graph.vectors(tier), self.config.channels.radial)
        return geometry

    @staticmethod
    def _widen(bonds: tuple[Tensor, Tensor], geometry: BondGeometry, first: bool) -> tuple[Tensor, Tensor]:
        """Copy bond latents into a longer list. New bonds start at 0, the value of latents at the shorter cutoff."""
        scalar, vector = bonds
        num_bonds = geometry.tier.num_bonds
        wide_scalar = scalar.new_zeros(num_bonds, *scalar.shape[1:])
        wide_vector = vector.new_zeros(num_bonds, *vector.shape[1:])
        if first:
            return wide_scalar, wide_vector
        inner = geometry.tier.inner
        return wide_scalar.index_copy_(0, inner, scalar), wide_vector.index_copy_(0, inner, vector)


class NativeReadout(nn.Module):
    """Readout of one layer: from the state of the atoms to latents with other channels.

    Args:
        channels: channels of the state.
        outputs: numbers of scalars, vectors and tensors that are read out.
    """

    def __init__(self, channels: Channels, outputs: Channels) -> None:
        super().__init__()
        scalar, vector, rank2 = channels.scalar, channels.vector, channels.rank2
        self._weights: WeightCache[Tensor] = WeightCache()
        self.sizes = [scalar, outputs.vector, outputs.vector, outputs.rank2, outputs.rank2]
        self.norm = nn.LayerNorm(scalar, elementwise_affine=False)
        self.gates = MLP((scalar, scalar, sum(self.sizes)))
        self.scalar = Linear(scalar, outputs.scalar)
        self.hidden = Linear(scalar, outputs.scalar, bias=False)
        self.vector = ChannelMix(vector, outputs.vector)
        self.rank2 = ChannelMix(rank2, outputs.rank2)
        self.vector_in = ChannelMix(vector, vector)
        self.rank2_in = ChannelMix(rank2, vector)
        self.turned = ChannelMix(vector, outputs.vector)
        self.squared = ChannelMix(vector, outputs.rank2)
        last = cast(nn.Linear, self.gates[-1])
        with torch.no_grad():
            # Start as linear maps with results near zero.
            last.weight.zero_()
            last.bias.zero_()
            for mix in (self.scalar, self.vector, self.rank2):
                mix.weight.mul_(0.1)

    def forward(self, scalar: Tensor, vector: Tensor, rank2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Turn scalars [N, C], vectors [N, 3, C] and tensors [N, 6, C] of the state into latents of the same ranks."""
        parts = self._parts()
        if self._weights.can_fuse(parts, scalar):
            weights = self._weights.get(parts, lambda: flat_weights(self._flat_parts()))
            return atom_readout(scalar, vector, rank2, weights, self.scalar.out_features, *self.sizes[2:4])
        hidden, *gates = self.gates(self.norm(scalar)).split(self.sizes, dim=-1)
        g1, g2, g3, g4 = (gate.unsqueeze(1) for gate in gates)
        x, tau = self.vector_in(vector), self.rank2_in(rank2)
        x = x * soft_scale(norm_squared(x)).unsqueeze(1)
        tau = tau * soft_scale(norm_squared(tau)).unsqueeze(1)
        turned, squared = self.turned(times_vector(tau, x)), self.squared(square(x))
        return (
            self.scalar(scalar) + self.hidden(hidden),
            (1.0 + g1) * self.vector(vector) + g2 * turned,
            traceless((1.0 + g3) * self.rank2(rank2) + g4 * squared),
        )

    def _parts(self) -> tuple[nn.Module, ...]:
        mixes = self.vector, self.rank2, self.vector_in, self.rank2_in, self.turned, self.squared
        return self.norm, self.gates, self.scalar, self.hidden, *mixes

    def _flat_parts(self) -> list[Tensor]:
        """List the weights in the order of `atom_readout`."""
        first, second = cast(nn.Linear, self.gates[0]), cast(nn.Linear, self.gates[-1])
        mixes = self.vector, self.rank2, self.vector_in, self.rank2_in, self.turned, self.squared
        linear = [first.weight, first.bias, second.weight, second.bias, self.scalar.weight, self.scalar.bias]
        return [*linear, self.hidden.weight, *(mix.weight for mix in mixes)]


def _fill_elements(encoder: NativeEncoder, _incompatible_keys: object) -> None:
    encoder.elements = subshell_table(encoder.elements.dtype, encoder.embedding.weight.device)


def subshell_table(dtype: torch.dtype = torch.float32, device: torch.device | None = None) -> Tensor:
    """Tabulate half the occupations of the subshells by Madelung's rule, one row per atomic number (row 0 is empty).

    Exceptions to the rule (Cr, Cu and others move one or two electrons) are left out: the encoder only needs to tell
    elements apart, and to know their group and period.

    Args:
        dtype: dtype of the table.
        device: its device; None for torch's default device.

    Returns:
        The table; the entries of element Z sum to Z / 2. [119, 19].
    """
    rows = [[0.0] * len(SUBSHELLS) for _ in range(NUM_ELEMENTS + 1)]
    for number, row in enumerate(rows):
        left = number
        for column, name in enumerate(SUBSHELLS):
            filled = min(left, _CAPACITY[name[-1]])
            row[column] = 0.5 * filled
            left -= filled
    return torch.tensor(rows, dtype=dtype, device=device)

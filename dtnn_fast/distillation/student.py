# SPDX-License-Identifier: MIT
"""The encoder that learns, and how far its latents are from the teacher's."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..encoders.native import NativeEncoder, NativeEncoderConfig
from ..errors import DTNNError
from ..nn.graph import CrystalGraph
from ..nn.latents import Latents
from ..nn.symmetric_tensors import norm_squared
from .energy_readout import CompositionFit, EnergyTerm
from .labels import ENERGY, RANKS, read_manifest, read_shard

SMALLEST_SPREAD = 1e-6


@dataclass(frozen=True)
class Match:
    """A layer of ours that learns a layer of the teacher's, both counted from 1.

    Args:
        ours: the layer that learns.
        theirs: the layer that it learns.
        weight: in the loss, relative to the other matches.
    """

    ours: int
    theirs: int
    weight: float = 1.0


class Spread(NamedTuple):
    """Where the labels of one layer and rank lie, by channel.

    Args:
        mean: 0 for vectors and tensors, which have no preferred direction. [C].
        deviation: root mean square around it, of the norm for vectors and tensors. [C].
    """

    mean: Tensor
    deviation: Tensor


class ChannelErrors(NamedTuple):
    """Weighted sums over atoms, in units of the variance of the labels.

    Args:
        errors: of the squared errors. [C].
        squares: of the squared distances from the mean, which is the error of predicting nothing but the mean. [C].
    """

    errors: Tensor
    squares: Tensor


class Losses(NamedTuple):
    """The loss and what it is made of; only `total` has a gradient.

    Args:
        total: what is minimised.
        unexplained: the unexplained part of the variance of the latents.
        energy: mean absolute error of the energies in eV per atom; None where they are not learned.
    """

    total: Tensor
    unexplained: Tensor
    energy: Tensor | None


def squared_errors(difference: Tensor, rank: str) -> Tensor:
    """Squares of scalars [N, C], or squared norms of vectors [N, 3, C] and tensors [N, 6, C]. -> [N, C]."""
    return difference * difference if rank == "scalar" else norm_squared(difference)


def check_matches(matches: Sequence[Match], num_layers: int, known: Collection[int]) -> None:
    """Refuse matches of layers that there are not, before hours go into labels.

    Args:
        matches: which layer learns which.
        num_layers: of our encoder.
        known: the teacher's layers.

    Raises:
        DTNNError: a match names a layer that there is not, or two of them the same layer of ours.
    """
    for match in matches:
        if not 1 <= match.ours <= num_layers or match.theirs not in known:
            raise DTNNError(
                f"distill: cannot teach layer {match.ours} of the encoder's {num_layers} "
                f"the teacher's layer {match.theirs}"
            )
    if len({match.ours for match in matches}) < len(matches):
        raise DTNNError("distill: a layer of the encoder can learn only one layer of the teacher's")


def readout_of(spreads: Mapping[str, Spread]) -> tuple[int, ...]:
    """The channels of the teacher's latents, of which a layer may lack some ranks."""
    sizes = dict.fromkeys(RANKS, 1)
    for name, spread in spreads.items():
        rank = name.partition("_")[0]
        sizes[rank] = max(sizes[rank], len(spread.mean))
    return tuple(sizes.values())


class Student(nn.Module):
    """The native encoder, whose latents are to be the teacher's, whitened.

    Its readouts have the channels of the teacher's latents: scalars minus their mean, everything over its deviation.

    Args:
        config: settings of the encoder; it is built with all its layers, and with readouts of the teacher's channels.
        matches: which layer learns which.
        spreads: of the labels, by name such as ``"vector_3"``; a rank that a layer of the teacher lacks is absent.
        energy_weight: of the energies in the loss.
        fit: of the energies to the compositions, where the energies are learned too.

    Raises:
        DTNNError: a match names a layer that there is not, or two of them the same layer of ours.
    """

    def __init__(
        self,
        config: NativeEncoderConfig,
        matches: tuple[Match, ...],
        spreads: Mapping[str, Spread],
        energy_weight: float = 0.0,
        fit: CompositionFit | None = None,
    ) -> None:
        super().__init__()
        known = [int(layer) for rank, _, layer in (name.partition("_") for name in spreads) if rank == "scalar"]
        check_matches(matches, len(config.cutoffs), known)
        self.encoder = NativeEncoder(replace(config, readout=readout_of(spreads)))
        self.energy_weight = energy_weight
        self.energy = None if fit is None else EnergyTerm(self.encoder.channels.scalar, fit)
        self.matches = matches
        self.names: set[str] = set()
        for match in matches:
            for rank in RANKS:
                if (spread := spreads.get(f"{rank}_{match.theirs}")) is not None:
                    self._add_spread(f"{rank}_{match.theirs}", spread)

    def _add_spread(self, name: str, spread: Spread) -> None:
        if name not in self.names:
            self.names.add(name)
            self.register_buffer(f"{name}_mean", spread.mean.float())
            self.register_buffer(f"{name}_deviation", spread.deviation.float().clamp(min=SMALLEST_SPREAD))

    def learned(self) -> list[tuple[Match, str]]:
        """The matches, and the ranks that they have labels for."""
        return [(match, rank) for match in self.matches for rank in RANKS if f"{rank}_{match.theirs}" in self.names]

    def forward(self, graph: CrystalGraph, labels: Mapping[str, Tensor]) -> Losses:
        """The unexplained part of the variance, a mean over ranks and layers with the weights of the matches.

        Where energies are learned, `energy_weight` times their mean absolute error is added, in units of the deviation
        of what the composition leaves of them.

        Args:
            graph: crystals, built with the encoder's cutoffs.
            labels: the teacher's latents of their atoms, and the energies of the crystals where they are learned.

        Returns:
            Scalars.
        """
        latents = self.encoder(graph)
        parts = self.channel_errors(latents, labels)
        total = sum(match.weight for match, _ in parts)
        losses = [
            match.weight / total * part.errors.sum() / part.squares.sum().clamp(min=SMALLEST_SPREAD)
            for (match, _), part in parts.items()
        ]
        unexplained = torch.stack(losses).sum()
        if self.energy is None:
            return Losses(unexplained, unexplained.detach(), None)
        energy = self.energy.errors(latents[-1].atom_scalar, graph, labels[ENERGY]).errors.abs().mean()
        loss = unexplained + (self.energy_weight * energy / self.energy.deviation).to(unexplained.dtype)
        return Losses(loss, unexplained.detach(), energy.detach())

    def channel_errors(
        self, latents: Sequence[Latents], labels: Mapping[str, Tensor]
    ) -> dict[tuple[Match, str], ChannelErrors]:
        """Squared errors beside those of always predicting the mean; see `forward`.

        A few atoms, in crystals that are far from equilibrium, have latents a hundred times larger than most. So that
        they do not decide, each atom has the weight 1 / (1 + |y|^2), where |y|^2 is the mean over channels of its
        whitened label.

        Args:
            latents: what the encoder gives for the crystals.
            labels: the teacher's latents of their atoms.

        Returns:
            For each match and rank.
        """
        return {
            (match, rank): self._errors(latents[match.ours - 1], match, rank, labels) for match, rank in self.learned()
        }

    def _errors(self, latents: Latents, match: Match, rank: str, labels: Mapping[str, Tensor]) -> ChannelErrors:
        values: Tensor = getattr(latents, f"atom_{rank}")
        name = f"{rank}_{match.theirs}"
        mean, deviation = getattr(self, f"{name}_mean"), getattr(self, f"{name}_deviation")
        expected = (labels[name].to(values.dtype) - mean) / deviation
        squares = squared_errors(expected, rank)
        weight = 1.0 / (1.0 + squares.mean(-1, keepdim=True))
        errors = squared_errors(values - expected, rank)
        return ChannelErrors((weight * errors).sum(0), (weight * squares).sum(0))


# The shards are random samples: a few thousand crystals give these numbers to a percent.
_MOST_SHARDS = 16
# The part of the atoms with the largest labels that is left out: a few would make most of the variance.
_LEFT_OUT = 0.01


def spreads_of(folder: Path) -> dict[str, Spread]:
    """The spread of every label over the training crystals of the first shards.

    Args:
        folder: what `labels.label` filled.

    Returns:
        By name, such as ``"vector_3"``.
    """
    values: dict[str, list[Tensor]] = {}
    for number in range(min(_MOST_SHARDS, int(read_manifest(folder)["crystals"]["shards"]))):
        shard = read_shard(folder, number)
        training = torch.repeat_interleave(shard["held_out"] == 0, shard["ptr"].diff())
        for name, stored in shard.items():
            if name.rpartition("_")[2].isdigit():
                values.setdefault(name, []).append(stored[training])
    return {name: _spread(torch.cat(parts).float(), name.partition("_")[0]) for name, parts in values.items()}


def _spread(values: Tensor, rank: str) -> Spread:
    """Mean and deviation of labels, without the atoms that lie furthest out."""
    first = _moments(values, rank)
    distances = squared_errors((values - first.mean) / first.deviation.clamp(min=SMALLEST_SPREAD), rank).mean(-1)
    kept = distances.argsort()[: max(1, round(len(values) * (1 - _LEFT_OUT)))]
    return _moments(values[kept], rank)


def _moments(values: Tensor, rank: str) -> Spread:
    count = max(len(values), 1)
    mean = values.sum(0) / count if rank == "scalar" else values.new_zeros(values.shape[-1])
    return Spread(mean, (squared_errors(values - mean, rank).sum(0) / count).sqrt())

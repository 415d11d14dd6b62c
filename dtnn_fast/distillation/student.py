# SPDX-License-Identifier: MIT
"""The student: the native encoder, and the loss of its latents against the teacher's.

The loss compares whitened latents: the teacher's latents minus their mean, over their deviation. Both are statistics of
the labels of the training crystals.
"""

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
from ..training.energy_readout import CompositionFit, EnergyTerm
from .labels import ENERGY, RANKS, read_manifest, read_shard

SMALLEST_DEVIATION = 1e-6
# Shards are random samples of the crystals: a few thousand crystals give the statistics to 1 %.
_MAX_SHARDS = 16
# Fraction of the atoms, with the largest labels, that the statistics leave out: they would make most of the variance.
_OUTLIER_FRACTION = 0.01


class LabelStatistics(NamedTuple):
    """Mean and deviation of the labels of one layer and rank, by channel.

    Args:
        mean: mean over atoms; 0 for vectors and tensors, which have no preferred direction. [C].
        deviation: root mean square distance from the mean, of the norm for vectors and tensors. [C].
    """

    mean: Tensor
    deviation: Tensor


def label_statistics(folder: Path) -> dict[str, LabelStatistics]:
    """Compute mean and deviation of every label over the training crystals of the first shards.

    Args:
        folder: folder that `label_crystals` filled.

    Returns:
        Statistics by name of the label, such as ``"vector_3"``.
    """
    values: dict[str, list[Tensor]] = {}
    for number in range(min(_MAX_SHARDS, int(read_manifest(folder)["crystals"]["shards"]))):
        shard = read_shard(folder, number)
        training = torch.repeat_interleave(shard["held_out"] == 0, shard["ptr"].diff())
        for name, stored in shard.items():
            if name.rpartition("_")[2].isdigit():
                values.setdefault(name, []).append(stored[training])
    return {name: _without_outliers(torch.cat(parts).float(), name.partition("_")[0]) for name, parts in values.items()}


def _without_outliers(values: Tensor, rank: str) -> LabelStatistics:
    """Compute the statistics of labels without the atoms furthest from the mean."""
    of_all = _statistics(values, rank)
    distances = squared_errors((values - of_all.mean) / of_all.deviation.clamp(min=SMALLEST_DEVIATION), rank).mean(-1)
    kept = distances.argsort()[: max(1, round(len(values) * (1 - _OUTLIER_FRACTION)))]
    return _statistics(values[kept], rank)


def _statistics(values: Tensor, rank: str) -> LabelStatistics:
    count = max(len(values), 1)
    mean = values.sum(0) / count if rank == "scalar" else values.new_zeros(values.shape[-1])
    return LabelStatistics(mean, (squared_errors(values - mean, rank).sum(0) / count).sqrt())


def squared_errors(difference: Tensor, rank: str) -> Tensor:
    """Compute squares of scalars [N, C], or squared norms of vectors [N, 3, C] and tensors [N, 6, C]. -> [N, C]."""
    return difference * difference if rank == "scalar" else norm_squared(difference)


@dataclass(frozen=True)
class LayerMatch:
    """A layer of the student and the layer of the teacher that it learns, both counted from 1.

    Args:
        ours: the student's layer.
        theirs: the teacher's layer.
        weight: weight of this match in the loss, relative to the other matches.
    """

    ours: int
    theirs: int
    weight: float = 1.0


class ChannelErrors(NamedTuple):
    """Weighted sums over atoms, in units of the variance of the labels.

    Args:
        errors: sum of the squared errors. [C].
        squares: sum of the squared distances of the labels from their mean: the errors of predicting the mean. [C].
    """

    errors: Tensor
    squares: Tensor


class Losses(NamedTuple):
    """The loss and its terms; only `total` has a gradient.

    Args:
        total: the loss that is minimised.
        unexplained: unexplained part of the variance of the latents.
        energy: mean absolute error of the energies in eV per atom; None where they are not learned.
    """

    total: Tensor
    unexplained: Tensor
    energy: Tensor | None


def check_matches(matches: Sequence[LayerMatch], num_layers: int, teacher_layers: Collection[int]) -> None:
    """Check that all matched layers exist before labelling starts.

    Args:
        matches: matches of the student's layers with the teacher's.
        num_layers: number of layers of the student.
        teacher_layers: layers of the teacher.

    Raises:
        DTNNError: a layer of a match does not exist, or two matches have the same layer of the student.
    """
    for match in matches:
        if not 1 <= match.ours <= num_layers or match.theirs not in teacher_layers:
            known = ", ".join(map(str, sorted(teacher_layers)))
            raise DTNNError(
                f"distill: layer {match.ours} of the encoder cannot learn layer {match.theirs} of the teacher: "
                f"the encoder has {num_layers} layers, the teacher has layers {known}"
            )
    if len({match.ours for match in matches}) < len(matches):
        raise DTNNError("distill: a layer of the encoder can learn only one layer of the teacher")


def readout_channels(statistics: Mapping[str, LabelStatistics]) -> tuple[int, ...]:
    """Give the number of channels of the teacher's latents by rank; a layer may lack some ranks."""
    channels = dict.fromkeys(RANKS, 1)
    for name, label in statistics.items():
        rank = name.partition("_")[0]
        channels[rank] = max(channels[rank], len(label.mean))
    return tuple(channels.values())


class Student(nn.Module):
    """The native encoder that learns the teacher's whitened latents, and its energies if wanted.

    Args:
        config: settings of the encoder; it is built with all its layers, and with readouts of the teacher's channels.
        matches: matches of the student's layers with the teacher's.
        statistics: statistics of the labels, by name such as ``"vector_3"``; a rank that a layer of the teacher lacks
            is absent.
        energy_weight: weight of the energies in the loss.
        fit: fit of the energies by constants of the elements; None where energies are not learned.

    Raises:
        DTNNError: a layer of a match does not exist, or two matches have the same layer of the student.
    """

    def __init__(
        self,
        config: NativeEncoderConfig,
        matches: tuple[LayerMatch, ...],
        statistics: Mapping[str, LabelStatistics],
        energy_weight: float = 0.0,
        fit: CompositionFit | None = None,
    ) -> None:
        super().__init__()
        teacher_layers = [
            int(layer) for rank, _, layer in (name.partition("_") for name in statistics) if rank == "scalar"
        ]
        check_matches(matches, len(config.cutoffs), teacher_layers)
        self.encoder = NativeEncoder(replace(config, readout=readout_channels(statistics)))
        self.energy_weight = energy_weight
        self.energy = None if fit is None else EnergyTerm(self.encoder.channels.scalar, fit)
        self.matches = matches
        self.label_names: set[str] = set()
        for match in matches:
            for rank in RANKS:
                name = f"{rank}_{match.theirs}"
                if name in statistics and name not in self.label_names:
                    self.label_names.add(name)
                    mean, deviation = statistics[name]
                    self.register_buffer(f"{name}_mean", mean.float())
                    self.register_buffer(f"{name}_deviation", deviation.float().clamp(min=SMALLEST_DEVIATION))

    def learned_ranks(self) -> list[tuple[LayerMatch, str]]:
        """List each match with each rank that has labels."""
        return [
            (match, rank) for match in self.matches for rank in RANKS if f"{rank}_{match.theirs}" in self.label_names
        ]

    def forward(self, graph: CrystalGraph, labels: Mapping[str, Tensor]) -> Losses:
        """Compute the loss: unexplained variance of the latents, and where energies are learned their error.

        The unexplained part of the variance is a mean over layers and ranks with the weights of the matches. The mean
        absolute error of the energies per atom, over the deviation of the fit, is added `energy_weight` times.

        Args:
            graph: crystals, built with the encoder's cutoffs.
            labels: the teacher's latents of their atoms, and the energies of the crystals where they are learned.

        Returns:
            Scalars.
        """
        latents = self.encoder(graph)
        channel_errors = self.channel_errors(latents, labels, graph.atom_weight)
        total_weight = sum(match.weight for match, _ in channel_errors)
        losses = [
            match.weight / total_weight * errors.sum() / squares.sum().clamp(min=SMALLEST_DEVIATION)
            for (match, _), (errors, squares) in channel_errors.items()
        ]
        unexplained = torch.stack(losses).sum()
        if self.energy is None:
            return Losses(unexplained, unexplained.detach(), None)
        energy = self.energy.errors(latents[-1].atom_scalar, graph, labels[ENERGY]).errors.abs().mean()
        loss = unexplained + (self.energy_weight * energy / self.energy.deviation).to(unexplained.dtype)
        return Losses(loss, unexplained.detach(), energy.detach())

    def channel_errors(
        self, latents: Sequence[Latents], labels: Mapping[str, Tensor], atom_weight: Tensor | None = None
    ) -> dict[tuple[LayerMatch, str], ChannelErrors]:
        """Sum the squared errors of the latents, and the squared errors of predicting the mean.

        A few atoms, in crystals far from equilibrium, have latents a hundred times larger than most. Each atom has the
        weight 1 / (1 + |y|^2), so that they do not dominate; |y|^2 is the mean over channels of the squared whitened
        label.

        Args:
            latents: the encoder's latents of the crystals, by layer.
            labels: the teacher's latents of their atoms.
            atom_weight: see `CrystalGraph`; None where every atom stands for itself. [N].

        Returns:
            Sums for each match and rank.
        """
        return {
            (match, rank): self._errors(latents[match.ours - 1], match, rank, labels, atom_weight)
            for match, rank in self.learned_ranks()
        }

    def _errors(
        self, latents: Latents, match: LayerMatch, rank: str, labels: Mapping[str, Tensor], atom_weight: Tensor | None
    ) -> ChannelErrors:
        values: Tensor = getattr(latents, f"atom_{rank}")
        name = f"{rank}_{match.theirs}"
        mean, deviation = getattr(self, f"{name}_mean"), getattr(self, f"{name}_deviation")
        expected = (labels[name].to(values.dtype) - mean) / deviation
        squares = squared_errors(expected, rank)
        weight = 1.0 / (1.0 + squares.mean(-1, keepdim=True))
        if atom_weight is not None:
            weight = weight * atom_weight.unsqueeze(-1)
        errors = squared_errors(values - expected, rank)
        return ChannelErrors((weight * errors).sum(0), (weight * squares).sum(0))

# SPDX-License-Identifier: MIT
"""Shared by the baselines: names, statistics of the training set, and the range of the predicted tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor, nn

from dtnn_fast.errors import DTNNError
from dtnn_fast.model.dtnn import JOINT_READOUTS
from dtnn_fast.training.metrics import isotropic_scale

from .graphs import BondGraph


class ModelName(StrEnum):
    """The baselines of Table 2."""

    painn = "painn"
    matten = "matten"
    m3gnet = "m3gnet"

    @property
    def label(self) -> str:
        """Name in tables."""
        return {"painn": "PaiNN", "matten": "MatTen", "m3gnet": "M3GNet"}[self.value]


@dataclass(frozen=True)
class TrainingStatistics:
    """Statistics of the training crystals that a model is built with.

    Args:
        elements: the atomic numbers of the whole data set, sorted.
        mean_neighbors: bonds of an atom.
        mean_volume: mean volume of an atom, cubic Angstrom.
        ranges: offset and scale of the tensors of each target: the median of their mean diagonals, and the mean
            absolute deviation of these from it.
    """

    elements: tuple[int, ...]
    mean_neighbors: float
    mean_volume: float
    ranges: Mapping[str, tuple[float, float]]

    @property
    def readouts(self) -> tuple[str, ...]:
        """The tensors that a model has outputs for; with all three targets, total is the sum of the other two."""
        return tuple(self.ranges) if len(self.ranges) == 1 else JOINT_READOUTS

    @classmethod
    def of(cls, graph: BondGraph, tensors: Mapping[str, Tensor], elements: Sequence[int]) -> TrainingStatistics:
        """Compute them for the training crystals.

        Args:
            graph: graph of all training crystals.
            tensors: [B, 3, 3] for each target: one, or all three.
            elements: the atomic numbers of the whole data set.
        """
        ranges = {target: isotropic_scale(target_tensors) for target, target_tensors in tensors.items()}
        mean_neighbors = graph.pairs.shape[1] / graph.num_atoms
        mean_volume = (graph.volumes.sum() / graph.num_atoms).item()
        return cls(tuple(sorted(elements)), mean_neighbors, mean_volume, ranges)


class Ranged(nn.Module):
    """A model in the range of its training set: ``offset I + scale model(graph)``, as the decoders of DTNN have it.

    Each readout has its own range. With electronic and ionic readouts, the total tensor is their sum.

    Args:
        model: maps a `BondGraph` to symmetric tensors of order 1. [B, R, 3, 3].
        statistics: statistics with the ranges, and so the names of the R readouts.
    """

    offset: Tensor
    scale: Tensor

    def __init__(self, model: nn.Module, statistics: TrainingStatistics) -> None:
        super().__init__()
        self.model, self.readouts = model, statistics.readouts
        ranges = torch.tensor([statistics.ranges[readout] for readout in self.readouts])
        self.register_buffer("offset", ranges[:, 0, None, None].clone())
        self.register_buffer("scale", ranges[:, 1, None, None].clone())

    def forward(self, graph: BondGraph) -> dict[str, Tensor]:
        """[B, 3, 3] for each target."""
        order_1 = self.model(graph)
        in_range = self.offset * torch.eye(3, dtype=order_1.dtype) + self.scale * order_1
        tensors = dict(zip(self.readouts, in_range.unbind(1), strict=True))
        if self.readouts == JOINT_READOUTS:
            tensors["total"] = tensors["electronic"] + tensors["ionic"]
        return tensors

    def compile_parts(self) -> None:
        """Replace slow parts by compiled ones with the same results.

        Raises:
            DTNNError: the model has none, or they cannot be compiled here.
        """
        compile_parts = getattr(self.model, "compile_parts", None)
        if compile_parts is None:
            raise DTNNError(f"--compile: {type(self.model).__name__} has no parts that are compiled")
        compile_parts()


def make_model(name: ModelName, cutoff: float, statistics: TrainingStatistics) -> Ranged:
    """Make a baseline with new weights; its package is imported here.

    Args:
        name: the baseline.
        cutoff: cutoff of the bonds in its graphs. Angstrom.
        statistics: statistics of the training crystals.

    Raises:
        MissingPackageError: the package of the model is not installed.
    """
    model: nn.Module
    readouts = len(statistics.readouts)
    if name is ModelName.painn:
        from .painn import PaiNNTensor

        model = PaiNNTensor(cutoff, readouts)
    elif name is ModelName.matten:
        from .matten import MatTen

        model = MatTen(cutoff, statistics.elements, statistics.mean_neighbors, readouts)
    else:
        from .m3gnet import M3GNetTensor

        model = M3GNetTensor(cutoff, statistics.elements, statistics.mean_volume, readouts)
    return Ranged(model, statistics)

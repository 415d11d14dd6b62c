# SPDX-License-Identifier: MIT
"""What the baselines have in common: their names, and the range of the tensors that they predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

import torch
from torch import Tensor, nn

from dtnn_fast.training.metrics import isotropic_scale

from .graphs import BondGraph


class ModelName(StrEnum):
    """The baselines of Table 2."""

    painn = "painn"
    matten = "matten"
    m3gnet = "m3gnet"

    @property
    def label(self) -> str:
        """As it is written in tables."""
        return {"painn": "PaiNN", "matten": "MatTen", "m3gnet": "M3GNet"}[self.value]


@dataclass(frozen=True)
class TrainingStatistics:
    """What a model is told about its training crystals before it sees them.

    Args:
        elements: the atomic numbers of the whole data set, sorted.
        mean_neighbors: bonds of an atom.
        mean_volume: of an atom, cubic Angstrom.
        offset: median of the mean diagonals of the tensors.
        scale: mean absolute deviation of the mean diagonals from the offset.
    """

    elements: tuple[int, ...]
    mean_neighbors: float
    mean_volume: float
    offset: float
    scale: float

    @classmethod
    def of(cls, graph: BondGraph, tensors: Tensor, elements: Sequence[int]) -> TrainingStatistics:
        """Of the training crystals.

        Args:
            graph: of all training crystals.
            tensors: [B, 3, 3].
            elements: the atomic numbers of the whole data set.
        """
        offset, scale = isotropic_scale(tensors)
        mean_neighbors = graph.pairs.shape[1] / graph.num_atoms
        mean_volume = (graph.volumes.sum() / graph.num_atoms).item()
        return cls(tuple(sorted(elements)), mean_neighbors, mean_volume, offset, scale)


class Ranged(nn.Module):
    """A model in the range of its training set: ``offset I + scale model(graph)``, as the decoders of DTNN have it.

    Args:
        model: maps a `BondGraph` to symmetric tensors of order 1. [B, 3, 3].
        offset: see `TrainingStatistics`.
        scale: see `TrainingStatistics`.
    """

    offset: Tensor
    scale: Tensor

    def __init__(self, model: nn.Module, offset: float, scale: float) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("offset", torch.tensor(offset))
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, graph: BondGraph) -> Tensor:
        """[B, 3, 3]."""
        tensors = self.model(graph)
        identity = torch.eye(3, dtype=tensors.dtype)
        return cast(Tensor, self.offset * identity + self.scale * tensors)


def make_model(name: ModelName, cutoff: float, statistics: TrainingStatistics) -> Ranged:
    """A baseline with new weights; the package behind it is imported here.

    Args:
        name: which.
        cutoff: of the bonds in its graphs. Angstrom.
        statistics: of the training crystals.

    Raises:
        MissingPackageError: the package of the model is not installed.
    """
    model: nn.Module
    if name is ModelName.painn:
        from .painn import PaiNNTensor  # noqa: PLC0415  needs schnetpack

        model = PaiNNTensor(cutoff)
    elif name is ModelName.matten:
        from .matten import MatTen  # noqa: PLC0415  needs e3nn

        model = MatTen(cutoff, statistics.elements, statistics.mean_neighbors)
    else:
        from .m3gnet import M3GNetTensor  # noqa: PLC0415  needs matgl

        model = M3GNetTensor(cutoff, statistics.elements, statistics.mean_volume)
    return Ranged(model, statistics.offset, statistics.scale)

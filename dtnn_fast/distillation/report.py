# SPDX-License-Identifier: MIT
"""How much of the teacher's latents the encoder explains, on crystals of chemical systems that it never saw."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from .batches import Batch
from .labels import RANKS
from .student import Match, Student, squared_errors

# A channel of the teacher's that is the same on all atoms has nothing to explain.
_SMALLEST_VARIANCE = 1e-8


@dataclass(frozen=True)
class Explained:
    """The explained variance of one layer of the teacher's.

    Args:
        ours: the layer that learned it.
        theirs: the teacher's layer.
        ranks: 1 - (squared error) / (variance) by rank, as a mean over channels.
    """

    ours: int
    theirs: int
    ranks: dict[str, float]


class _Sums:
    """Sums over atoms from which a channel's variance comes."""

    def __init__(self) -> None:
        self.count = 0
        self.first: Tensor | float = 0.0
        self.second: Tensor | float = 0.0

    def add(self, values: Tensor, rank: str) -> None:
        values = values.double()
        self.count += len(values)
        if rank == "scalar":
            self.first = self.first + values.sum(0)
        self.second = self.second + squared_errors(values, rank).sum(0)

    def scatter(self) -> Tensor:
        """Sum of squared distances from the mean. [C]."""
        return torch.as_tensor(self.second - self.first * self.first / max(self.count, 1))


@torch.no_grad()
def explained_variance(student: Student, batches: Iterable[Batch], device: torch.device | str) -> list[Explained]:
    """Explained variance per match and rank.

    1 - sum |prediction - label|^2 / sum |label - mean|^2,  for each channel, then the mean over channels

    Args:
        student: what learned.
        batches: labelled crystals; their own variance is what is to be explained.
        device: where the student is.

    Returns:
        One entry per match.
    """
    student.eval()
    errors: dict[tuple[Match, str], Tensor] = {}
    sums: dict[str, _Sums] = {}
    for batch in batches:
        there = batch.to(device)
        for (match, rank), channels in student.channel_errors(there.graph, there.labels).items():
            total = channels.double() * there.graph.num_atoms
            errors[match, rank] = errors.get((match, rank), torch.zeros_like(total)) + total
        for name, values in there.labels.items():
            sums.setdefault(name, _Sums()).add(values, name.partition("_")[0])
    explained: dict[Match, dict[str, float]] = {}
    for (match, rank), total in errors.items():
        name = f"{rank}_{match.theirs}"
        scatter = sums[name].scatter() / student.variance(name).double()
        varies = scatter > _SMALLEST_VARIANCE * sums[name].count
        unexplained = (total / scatter)[varies].mean() if varies.any() else torch.tensor(0.0)
        explained.setdefault(match, {})[rank] = 1.0 - float(unexplained)
    return [Explained(match.ours, match.theirs, ranks) for match, ranks in explained.items()]


def rows(explained: Iterable[Explained]) -> list[list[str]]:
    """A table: our layer, the teacher's, and the explained variance of each rank."""
    return [
        [str(e.ours), str(e.theirs), *(f"{e.ranks[rank]:.3f}" if rank in e.ranks else "-" for rank in RANKS)]
        for e in explained
    ]

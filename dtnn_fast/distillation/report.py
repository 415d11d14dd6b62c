# SPDX-License-Identifier: MIT
"""How much of the teacher's latents the encoder explains, on crystals of chemical systems that it never saw."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from .batches import Batch
from .labels import RANKS
from .student import Match, Student

# A channel of the teacher's that is the same on all atoms has nothing to explain.
_SMALLEST_PART = 1e-6


@dataclass(frozen=True)
class Explained:
    """The explained variance of one layer of the teacher's.

    Args:
        ours: the layer that learned it.
        theirs: the teacher's layer.
        ranks: by rank; 1 is everything, 0 no more than the mean.
    """

    ours: int
    theirs: int
    ranks: dict[str, float]


@torch.no_grad()
def explained_variance(student: Student, batches: Iterable[Batch], device: torch.device | str) -> list[Explained]:
    """Explained variance per match and rank, with the weights of the atoms of `Student.channel_errors`.

    1 - sum w |prediction - label|^2 / sum w |label - mean|^2,  for each channel, then the mean over channels

    Args:
        student: what learned.
        batches: labelled crystals; the mean is that of the training crystals.
        device: where the student is.

    Returns:
        One entry per match; none without crystals.
    """
    student.eval()
    sums: dict[tuple[Match, str], tuple[Tensor, Tensor]] = {}
    for batch in batches:
        there = batch.to(device)
        for key, part in student.channel_errors(there.graph, there.labels).items():
            errors, squares = sums.get(key, (torch.zeros(()), torch.zeros(())))
            sums[key] = errors + part.errors.double().cpu(), squares + part.squares.double().cpu()
    explained: dict[Match, dict[str, float]] = {}
    for (match, rank), (errors, squares) in sums.items():
        varies = squares > _SMALLEST_PART * squares.mean()
        unexplained = float((errors / squares)[varies].mean()) if varies.any() else 1.0
        explained.setdefault(match, {})[rank] = 1.0 - unexplained
    return [Explained(match.ours, match.theirs, ranks) for match, ranks in explained.items()]


def rows(explained: Iterable[Explained]) -> list[list[str]]:
    """A table: our layer, the teacher's, and the explained variance of each rank."""
    return [
        [str(e.ours), str(e.theirs), *(f"{e.ranks[rank]:.3f}" if rank in e.ranks else "-" for rank in RANKS)]
        for e in explained
    ]

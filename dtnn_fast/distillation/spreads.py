# SPDX-License-Identifier: MIT
"""Means and deviations of the labels, which make every channel count the same."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from .labels import read_manifest, read_shard
from .student import SMALLEST_SPREAD, Spread, squared_errors

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

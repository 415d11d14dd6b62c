# SPDX-License-Identifier: MIT
"""Means and deviations of the labels, which make every channel count the same."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from .labels import read_manifest, read_shard
from .student import Spread, squared_errors

# The shards are random samples: a few thousand crystals give these numbers to a percent.
_MOST_SHARDS = 16


def spreads_of(folder: Path) -> dict[str, Spread]:
    """The spread of every label over the training crystals of the first shards.

    Args:
        folder: what `labels.label` filled.

    Returns:
        By name, such as ``"vector_3"``.
    """
    sums: dict[str, Tensor] = {}
    squares: dict[str, Tensor] = {}
    count = 0
    for number in range(min(_MOST_SHARDS, int(read_manifest(folder)["crystals"]["shards"]))):
        shard = read_shard(folder, number)
        training = torch.repeat_interleave(shard["held_out"] == 0, shard["ptr"].diff())
        count += int(training.sum())
        for name in shard:
            rank, _, layer = name.partition("_")
            if not layer.isdigit():
                continue
            values = shard[name][training].double()
            total = values.sum(0) if rank == "scalar" else values.new_zeros(values.shape[-1])
            sums[name] = sums.get(name, 0) + total
            squares[name] = squares.get(name, 0) + squared_errors(values, rank).sum(0)
    means = {name: total / max(count, 1) for name, total in sums.items()}
    return {
        name: Spread(mean, (squares[name] / max(count, 1) - mean * mean).clamp(min=0).sqrt())
        for name, mean in means.items()
    }

# SPDX-License-Identifier: MIT
"""A running mean of a model's weights, which jumps less from step to step than the weights do."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

Model = TypeVar("Model", bound=nn.Module)


class RunningMean(Generic[Model]):
    """The exponential moving average of the weights of a model (B. T. Polyak and A. B. Juditsky, 1992).

    mean <- w mean + (1 - w) weights,  w = min(share, (1 + step) / (10 + step))

    Args:
        model: whose weights are averaged; with a share of 0 it is its own mean.
        share: how much the old mean counts, from 0 to below 1. At first less, so that the random start is forgotten.
    """

    def __init__(self, model: Model, share: float) -> None:
        self.source, self.share, self.steps = model, share, 0
        self.model = copy.deepcopy(model) if share else model

    def update(self) -> None:
        """Take the weights of the model after a step."""
        if not self.share:
            return
        self.steps += 1
        weight = 1.0 - min(self.share, (1 + self.steps) / (10 + self.steps))
        pairs = [
            (mean, new)
            for mean, new in zip(self.model.parameters(), self.source.parameters(), strict=True)
            if new.requires_grad
        ]
        with torch.no_grad():
            torch._foreach_lerp_([mean for mean, _ in pairs], [new for _, new in pairs], weight)

# SPDX-License-Identifier: MIT
"""The running mean of weights by its formula."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dtnn_fast.training.trainer import RunningMean


def test_the_mean_follows_its_formula():
    model = nn.Linear(2, 1, bias=False)
    frozen = nn.Linear(1, 1, bias=False).requires_grad_(False)
    both = nn.Sequential(model, frozen)
    mean = RunningMean(both, 0.7)
    expected = model.weight.detach().clone()
    kept = frozen.weight.clone()
    for step in range(1, 30):
        with torch.no_grad():
            model.weight.fill_(float(step))
        mean.update()
        share = min(0.7, (1 + step) / (10 + step))
        expected = share * expected + (1 - share) * step
    torch.testing.assert_close(mean.model[0].weight.detach(), expected)
    assert torch.equal(mean.model[1].weight, kept)
    assert model.weight[0, 0] == 29


def test_without_a_share_the_model_is_its_own_mean():
    model = nn.Linear(1, 1)
    mean = RunningMean(model, 0.0)
    mean.update()
    assert mean.model is model
    assert mean.steps == 0


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_constant_weights_stay(share):
    model = nn.Linear(3, 3)
    mean = RunningMean(model, share)
    for _ in range(5):
        mean.update()
    torch.testing.assert_close(mean.model.weight, model.weight)

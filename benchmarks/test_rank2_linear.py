# SPDX-License-Identifier: MIT
"""rank2_linear against its twin in eager PyTorch."""

from __future__ import annotations

import pytest
import torch
from timing import compare, forward_and_backward

from dtnn_fast import reference
from dtnn_fast.ops import rank2_linear

# N, K, C, D: the latents of the encoder and of the decoder for a batch of small crystals.
SHAPES = [(10_000, 3, 32, 32), (10_000, 6, 32, 32), (5_000, 3, 128, 128), (5_000, 6, 128, 128), (10_000, 1, 128, 128)]


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_forward(benchmark, shape, norm):
    n, k, c, d = shape
    x, weight = torch.randn(n, k, c), torch.randn(d, c)
    peers = {"twin": lambda: reference.rank2_linear(x, weight, norm)}
    compare(benchmark, f"rank2_linear norm={norm} fwd {shape}", lambda: rank2_linear(x, weight, norm), peers)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_forward_and_backward(benchmark, shape, norm):
    n, k, c, d = shape
    inputs = torch.randn(n, k, c), torch.randn(d, c)
    native = forward_and_backward(lambda x, weight: rank2_linear(x, weight, norm), *inputs)
    twin = forward_and_backward(lambda x, weight: reference.rank2_linear(x, weight, norm), *inputs)
    compare(benchmark, f"rank2_linear norm={norm} fwd+bwd {shape}", native, {"twin": twin})

# SPDX-License-Identifier: MIT
"""rank2_gate against its twin in eager PyTorch."""

from __future__ import annotations

import pytest
import torch
from timing import compare, forward_and_backward

from dtnn_fast import reference
from dtnn_fast.ops import rank2_gate

# N, K, C, D: the latents of the encoder and of the decoder for a batch of small crystals.
SHAPES = [(10_000, 3, 32, 32), (10_000, 6, 32, 32), (5_000, 3, 128, 128), (5_000, 6, 128, 128)]


def random_inputs(shape: tuple[int, int, int, int]) -> tuple[torch.Tensor, ...]:
    n, k, c, d = shape
    return torch.randn(n, k, c), torch.randn(n, d), torch.randn(d, c), torch.randn(n, k, d)


@pytest.mark.parametrize("shape", SHAPES)
def test_forward(benchmark, shape):
    inputs = random_inputs(shape)
    peers = {"twin": lambda: reference.rank2_gate(*inputs)}
    compare(benchmark, f"rank2_gate fwd {shape}", lambda: rank2_gate(*inputs), peers)


@pytest.mark.parametrize("shape", SHAPES)
def test_forward_and_backward(benchmark, shape):
    inputs = random_inputs(shape)
    native, twin = (forward_and_backward(op, *inputs) for op in (rank2_gate, reference.rank2_gate))
    compare(benchmark, f"rank2_gate fwd+bwd {shape}", native, {"twin": twin})

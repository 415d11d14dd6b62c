# SPDX-License-Identifier: MIT
"""tensor_readout against its twin in eager PyTorch."""

from __future__ import annotations

import pytest
import torch
from timing import compare, forward_and_backward

from dtnn_fast import reference
from dtnn_fast.ops import tensor_readout


@pytest.mark.parametrize("channels", [1, 32])
@pytest.mark.parametrize("sizes", [(64, 10), (1000, 10), (1, 10_000)])
def test_forward_and_backward(benchmark, sizes, channels):
    num_crystals, atoms_per_crystal = sizes
    n = num_crystals * atoms_per_crystal
    parts = torch.randn(n, channels), torch.randn(n, 3, channels), torch.randn(n, 6, channels)
    ptr = torch.arange(num_crystals + 1) * atoms_per_crystal
    native, twin = (forward_and_backward(op, *parts, ptr) for op in (tensor_readout, reference.tensor_readout))
    case = f"tensor_readout fwd+bwd {num_crystals} crystals of {atoms_per_crystal}, C = {channels}"
    compare(benchmark, case, native, {"twin": twin})

# SPDX-License-Identifier: MIT
"""Tests of this folder run on every available device, and on one thread because their inputs are small."""

from __future__ import annotations

import pytest
import torch
from model_cases import one_thread  # noqa: F401  a fixture that every test uses

from dtnn_fast import ops  # noqa: F401  loads the operations

DEVICES = ["cpu"]
if torch.cuda.is_available() and torch.ops.dtnn_fast.has_cuda_kernels():
    DEVICES.append(pytest.param("cuda", marks=pytest.mark.cuda))


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    """The device of the test."""
    return request.param

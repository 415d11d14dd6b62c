# SPDX-License-Identifier: MIT
"""The devices that the contract is tested on, and one thread for the small inputs of these tests."""

from __future__ import annotations

import pytest
import torch
from model_cases import one_thread  # noqa: F401  a fixture for every test of this folder

from dtnn_fast import ops  # noqa: F401  loads the operations

DEVICES = ["cpu"]
if torch.cuda.is_available() and torch.ops.dtnn_fast.has_cuda_kernels():
    DEVICES.append(pytest.param("cuda", marks=pytest.mark.cuda))


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    """Where the test runs."""
    return request.param

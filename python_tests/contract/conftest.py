# SPDX-License-Identifier: MIT
"""Devices for the tests of this folder, and one thread for their small inputs."""

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
    """Return the device on which the test runs."""
    return request.param

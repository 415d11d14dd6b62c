# SPDX-License-Identifier: MIT
"""Checks on a GPU, skipped without one; DTNN_TEST_DEVICE=cpu runs them on the CPU to test the checks themselves."""

from __future__ import annotations

import os

import pytest
import torch

DEVICE = os.environ.get("DTNN_TEST_DEVICE", "cuda")


def pytest_report_header() -> str:
    name = torch.cuda.get_device_name() if DEVICE != "cpu" and torch.cuda.is_available() else DEVICE
    return f"checks on a GPU: {name}"


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The device of the checks."""
    if DEVICE not in ("cpu", "cuda"):
        raise ValueError(f"DTNN_TEST_DEVICE: expected cpu or cuda, got {DEVICE!r}")
    if DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device; DTNN_TEST_DEVICE=cpu runs these checks on the CPU")
    return torch.device(DEVICE)


@pytest.fixture(autouse=True)
def _tf32_off() -> None:
    """Use full float32 in the matrix products of the reference implementations."""
    torch.backends.cuda.matmul.allow_tf32 = False

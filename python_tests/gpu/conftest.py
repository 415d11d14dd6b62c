# SPDX-License-Identifier: MIT
"""Checks on a GPU. Without one they are skipped; DTNN_TEST_DEVICE=cpu runs them on the CPU, which proves the checks."""

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
    """Where the checks run."""
    if DEVICE not in ("cpu", "cuda"):
        raise ValueError(f"DTNN_TEST_DEVICE: expected cpu or cuda, got {DEVICE!r}")
    if DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device; DTNN_TEST_DEVICE=cpu runs these checks on the CPU")
    return torch.device(DEVICE)


@pytest.fixture(autouse=True)
def _tf32_off() -> None:
    """Products of the reference implementations in full float32."""
    torch.backends.cuda.matmul.allow_tf32 = False

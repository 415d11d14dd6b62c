# SPDX-License-Identifier: MIT
"""What a run was computed on, for its record."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch


def hardware() -> dict[str, Any]:
    """Name the processor, its cores and the GPU.

    Returns:
        "cpu": the name of the processor; "cores": logical cores of the machine; "gpu": the name of the GPU, or None.
    """
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cpu": _processor(), "cores": os.cpu_count(), "gpu": gpu}


def _processor() -> str:
    """The name that Linux gives; elsewhere what Python knows."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()

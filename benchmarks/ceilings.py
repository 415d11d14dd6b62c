# SPDX-License-Identifier: MIT
"""The two rates under every floor, measured: bytes a large copy moves a second, and operations of a matrix product."""

from __future__ import annotations

import statistics
from functools import cache
from typing import NamedTuple

import torch
from clocks import Call, clock_for
from timing import num_threads

from dtnn_fast.ops import rank2_linear

# Larger than any cache.
COPY_BYTES = {"cpu": 1 << 28, "cuda": 1 << 31}
REPEATS = 15


class Ceilings(NamedTuple):
    """Rates of a device with a number of threads."""

    bytes_per_second: float
    flops_per_second: float


@cache
def ceilings(device_type: str, threads: int) -> Ceilings:
    """Measure both; float32."""
    device = torch.device(device_type)
    with num_threads(threads):
        source = torch.randn(COPY_BYTES[device_type] // 4, device=device)
        target = torch.empty_like(source)
        copy = _median(lambda: target.copy_(source), device)
        return Ceilings(2 * source.numel() * 4 / copy, _flops_per_second(device))


def _flops_per_second(device: torch.device) -> float:
    """The better of the library's product and, where MKL does not know the processor, our own.

    Without tf32 on a GPU: the operations compute in float32.
    """
    size = 4096 if device.type == "cuda" else 1024
    a, b = torch.randn(2, size, size, device=device)
    rates = [2 * size**3 / _median(lambda: a @ b, device)]
    if device.type == "cpu":
        x, weight = torch.randn(2048, 6, 128), torch.randn(128, 128)
        rates.append(2 * x.numel() * 128 / _median(lambda: rank2_linear(x, weight), device))
    return max(rates)


def _median(call: Call, device: torch.device) -> float:
    clock, calls = clock_for(device), [call]
    clock.sample(calls)
    return statistics.median(clock.sample(calls) for _ in range(REPEATS))

# SPDX-License-Identifier: MIT
"""Timing side by side: native operation and peers take turns, so that a busy machine slows all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

# Printed by conftest.py when the run ends.
LINES: list[str] = []
# Repeat a case for about this long.
SECONDS_PER_CASE = 3.0


@contextmanager
def num_threads(count: int) -> Iterator[None]:
    """Run the block with this number of threads in torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def seconds(call: Callable[[], Any]) -> float:
    """The time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def compare(
    benchmark: Any, case: str, native: Callable[[], Any], peers: dict[str, Callable[[], Any]], threads: int = 1
) -> dict[str, float]:
    """Time `native` (with pytest-benchmark) and the peers by turns, and note the line of ratios.

    Args:
        benchmark: pytest-benchmark's fixture; its figures for `native` go into the JSON, with the ratios beside them.
        case: what is measured, for the line.
        native: the call to be compared.
        peers: calls that do the same by other means, by name.
        threads: torch's threads during the measurement.

    Returns:
        How many times longer each peer takes, by name.
    """
    calls = {"native": native, **peers}
    with num_threads(threads):
        first = {name: min(seconds(call) for _ in range(2)) for name, call in calls.items()}
        rounds = max(5, min(50, int(SECONDS_PER_CASE / sum(first.values()))))
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(rounds):
            for name, call in calls.items():
                times[name].append(seconds(call))
        benchmark.pedantic(native, rounds=rounds, iterations=1)
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratios = {name: medians[name] / medians["native"] for name in peers}
    benchmark.extra_info |= {"threads": threads, "rounds": rounds, "median_s": medians, "ratios": ratios}
    shown = "  ".join(f"{name} {medians[name] * 1e3:.2f} ms = {ratio:.2f}x" for name, ratio in ratios.items())
    LINES.append(f"{case:<58} {threads} thread{'s' * (threads > 1)}  native {medians['native'] * 1e3:.2f} ms  {shown}")
    return ratios


def forward_and_backward(call: Callable[..., Any], *inputs: torch.Tensor) -> Callable[[], Any]:
    """A call of `call(*inputs)` and of the gradients of its outputs with respect to the floating-point inputs."""
    leaves = [x.detach().clone().requires_grad_() if x.is_floating_point() else x for x in inputs]
    wanted = [x for x in leaves if x.requires_grad]
    outputs = call(*leaves)
    grads = [torch.randn_like(out) for out in (outputs if isinstance(outputs, tuple) else (outputs,))]
    return lambda: torch.autograd.grad(call(*leaves), wanted, grads)

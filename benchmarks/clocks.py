# SPDX-License-Identifier: MIT
"""Clocks for one call: the host's on the CPU, events in the stream on a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

Call = Callable[[], Any]

# A GPU sample lasts at least this long, so that the events' resolution of half a microsecond does not matter.
GPU_SAMPLE_SECONDS = 1e-3
MOST_CALLS_PER_SAMPLE = 64


class Clock(Protocol):
    """Measures one sample of calls that do the same on different inputs."""

    def sample(self, calls: Sequence[Call]) -> float:
        """Seconds per call."""
        ...


class HostClock:
    """One call between two readings of the host's clock."""

    def sample(self, calls: Sequence[Call]) -> float:
        """Seconds of the first call."""
        start = time.perf_counter()
        calls[0]()
        return time.perf_counter() - start


class StreamClock:
    """Calls in turn over the input sets between two events, as many as make a sample long enough."""

    def __init__(self) -> None:
        self._calls_per_sample: dict[int, int] = {}

    def sample(self, calls: Sequence[Call]) -> float:
        """Seconds per call."""
        key = id(calls)
        if key not in self._calls_per_sample:
            once = max(self._between_events(calls, 1), 1e-7)
            self._calls_per_sample[key] = max(1, min(MOST_CALLS_PER_SAMPLE, round(GPU_SAMPLE_SECONDS / once)))
        return self._between_events(calls, self._calls_per_sample[key])

    @staticmethod
    def _between_events(calls: Sequence[Call], count: int) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for turn in range(count):
            calls[turn % len(calls)]()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) * 1e-3 / count


def clock_for(device: torch.device) -> Clock:
    """The clock of a device."""
    return StreamClock() if device.type == "cuda" else HostClock()


def captured(call: Call) -> Call | None:
    """The call as a CUDA graph, without the gaps between its launches; None where it cannot be captured."""
    try:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            call()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            call()
    except RuntimeError:
        torch.cuda.synchronize()
        return None
    return graph.replay

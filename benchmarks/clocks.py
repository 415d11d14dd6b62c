# SPDX-License-Identifier: MIT
"""Clocks for one call: the host's on the CPU, events in the stream and CUDA graphs on a GPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch

Call = Callable[[], Any]

# A GPU sample lasts at least this long, so that the events' resolution of half a microsecond does not matter.
GPU_SAMPLE_SECONDS = 1e-3
MOST_CALLS_PER_SAMPLE = 64
# Calls in one CUDA graph: its launch takes about 5 microseconds of the host, so one call a graph would measure that.
CALLS_PER_GRAPH = 20
# Calls put into the stream before a wait: fewer launches than its queue holds, so that the host never waits.
CALLS_IN_QUEUE = 20


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
            once = max(between_events(calls, 1), 1e-7)
            self._calls_per_sample[key] = max(1, min(MOST_CALLS_PER_SAMPLE, round(GPU_SAMPLE_SECONDS / once)))
        return between_events(calls, self._calls_per_sample[key])


def between_events(calls: Sequence[Call], count: int) -> float:
    """Run `count` calls, the input sets by turns, between two events. Seconds per call."""
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


class Captured(NamedTuple):
    """Calls in one CUDA graph, without the gaps between their launches.

    Args:
        replay: runs all of them.
        calls: how many they are.
    """

    replay: Call
    calls: int

    def seconds(self, samples: int = 15) -> float:
        """Median seconds of one of the calls."""
        once = max(between_events([self.replay], 1), 1e-7)
        repeats = max(1, min(MOST_CALLS_PER_SAMPLE, round(GPU_SAMPLE_SECONDS / once)))
        return statistics.median(between_events([self.replay], repeats) for _ in range(samples)) / self.calls


def captured(calls: Sequence[Call], count: int = CALLS_PER_GRAPH) -> Captured:
    """Capture `count` calls in one CUDA graph, the input sets by turns and each at least once.

    Raises:
        RuntimeError: one of the calls cannot be captured, for example because it waits for the device.
    """
    count = max(count, len(calls))
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for call in calls:
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            for turn in range(count):
                calls[turn % len(calls)]()
    except RuntimeError:
        torch.cuda.synchronize()
        raise
    return Captured(graph.replay, count)


def host_seconds(calls: Sequence[Call], device: torch.device, samples: int = 5) -> float:
    """Median seconds that the host spends on a call, without waiting for a GPU unless the call itself does."""
    times = []
    for _ in range(samples):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        for turn in range(CALLS_IN_QUEUE):
            calls[turn % len(calls)]()
        times.append((time.perf_counter() - start) / CALLS_IN_QUEUE)
    return statistics.median(times)

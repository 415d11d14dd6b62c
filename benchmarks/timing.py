# SPDX-License-Identifier: MIT
"""Timing side by side: the native call and its peers take turns, so that a busy machine slows all of them equally."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from clocks import Call, Clock, clock_for

# Printed by conftest.py when the run ends.
LINES: list[str] = []
# Repeat a case for about this long, but within these numbers of rounds.
SECONDS_PER_CASE = 1.5
FEWEST_ROUNDS, MOST_ROUNDS = 7, 60
# A side that takes this many times as long as the native one, and this many seconds, is far behind: two calls will do.
SLOW_RATIO, SLOW_SECONDS = 30.0, 0.1


@contextmanager
def num_threads(count: int) -> Iterator[None]:
    """Run the block with this number of threads in torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def by_turns(sides: Mapping[str, Sequence[Call]], clock: Clock, once: bool = False) -> dict[str, list[float]]:
    """Seconds per call of each side, the sides by turns.

    Args:
        sides: for each side the same call on one or more sets of inputs; the first side is the native one.
        clock: measures a sample.
        once: one round without a warm-up, which proves that everything runs and measures nothing.
    """
    if once:
        return {name: [clock.sample(calls)] for name, calls in sides.items()}
    first = {name: [clock.sample(calls) for _ in range(2)] for name, calls in sides.items()}
    native = min(next(iter(first.values())))
    quick = [name for name, times in first.items() if min(times) < max(SLOW_RATIO * native, SLOW_SECONDS)]
    rounds = int(SECONDS_PER_CASE / sum(min(first[name]) for name in quick))
    times: dict[str, list[float]] = {name: [] if name in quick else first[name] for name in sides}
    for _ in range(max(FEWEST_ROUNDS, min(MOST_ROUNDS, rounds))):
        for name in quick:
            times[name].append(clock.sample(sides[name]))
    return times


def compare(
    benchmark: Any,
    label: str,
    sides: Mapping[str, Sequence[Call]],
    device: str = "cpu",
    threads: int = 1,
    once: bool = False,
) -> dict[str, float]:
    """Time all sides by turns; write the medians to the JSON and a line to the terminal.

    Args:
        benchmark: pytest-benchmark's fixture; its own figures are those of the native side.
        label: name of the measurement in the line.
        sides: as for `by_turns`.
        device: where it runs.
        threads: torch's threads during the measurement.
        once: as for `by_turns`.

    Returns:
        The median seconds of each side.
    """
    native_name = next(iter(sides))
    with num_threads(threads):
        times = by_turns(sides, clock_for(torch.device(device)), once)
        # The fixture needs its own run; on a GPU its figure includes the launch and the wait.
        benchmark.pedantic(_and_wait(sides[native_name][0], device), rounds=1 if once else 5, iterations=1)
    medians = {name: statistics.median(values) for name, values in times.items()}
    benchmark.extra_info |= {"threads": threads, "device": device, "once": once, "median_s": medians}
    native = medians[native_name]
    shown = "  ".join(f"{name} {medians[name] / native:.2f}x" for name in list(sides)[1:])
    LINES.append(f"{label:<75} {threads} thr  {native * 1e3:9.3f} ms  {shown}")
    return medians


def _and_wait(call: Call, device: str) -> Callable[[], None]:
    def run() -> None:
        call()
        if device == "cuda":
            torch.cuda.synchronize()

    return run

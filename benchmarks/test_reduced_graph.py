# SPDX-License-Identifier: MIT
"""One atom and one bond of each symmetry orbit against all atoms and bonds: graphs, predictions and training steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from cases.crystals import labelled
from test_model import model, need_kernels, on_reference_backend
from timing import compare

from dtnn_fast.crystals import Crystal
from dtnn_fast.nn.graph import build_graph
from dtnn_fast.nn.reduced_graph import build_reduced_graph
from dtnn_fast.symmetry import find_operations

# How many times as long the model takes on the plain graph, at least, and the reduced graph to build, at most.
LEAST_RATIO, MOST_RATIO = 2.0, 3.0


@cache
def symmetric(step: int) -> tuple[Crystal, ...]:
    """Every `step`-th labelled crystal, with its operations."""
    return tuple(replace(crystal, operations=find_operations(crystal)) for crystal in labelled()[::step])


def measure(
    benchmark: Any, case: str, pass_name: str, sides: dict[str, Callable[[], Any]], device: str, once: bool
) -> dict[str, float]:
    """Time the sides, the first on the reduced graph."""
    label = f"DTNN with 3 targets, reduced, {case}, {pass_name}, {device}"
    medians = compare(benchmark, label, {name: [call] for name, call in sides.items()}, device, once=once)
    benchmark.extra_info |= {"op": "DTNN, 3 targets, reduced", "case": case, "pass": pass_name}
    return medians


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "training step"])
def test_model(benchmark, device: str, quick: bool, backward: bool) -> None:
    """The model on graphs that are given."""
    need_kernels(device)
    crystals = symmetric(300 if quick else 10)
    network = model(device)
    cutoffs = network.encoder.cutoffs
    plain, reduced = build_graph(crystals, cutoffs).to(device), build_reduced_graph(crystals, cutoffs).to(device)

    def run(graph: Any) -> Callable[[], Any]:
        def step() -> None:
            network.zero_grad()
            sum(tensors.square().mean() for tensors in network(graph).values()).backward()

        def predict() -> None:
            with torch.inference_mode():
                network(graph)

        return step if backward else predict

    sides = {"native": run(reduced), "plain": run(plain), "eager": on_reference_backend(run(plain))}
    pass_name = "forward+backward" if backward else "forward"
    medians = measure(benchmark, f"{len(crystals)} crystals", pass_name, sides, device, quick)
    if not quick:
        assert medians["plain"] > LEAST_RATIO * medians["native"]


@pytest.mark.parametrize("batch_size", [1, 96])
def test_graph(benchmark, device: str, quick: bool, batch_size: int) -> None:
    """Graphs from crystals whose operations are known."""
    if device != "cpu":
        pytest.skip("graphs are built on the CPU")
    crystals = symmetric(300 if quick else 10)[:batch_size]
    cutoffs = model("cpu").encoder.cutoffs
    sides = {"native": lambda: build_reduced_graph(crystals, cutoffs), "plain": lambda: build_graph(crystals, cutoffs)}
    medians = measure(benchmark, f"graphs of {len(crystals)} crystals", "forward", sides, "cpu", quick)
    if not quick and batch_size > 1:
        assert medians["native"] < MOST_RATIO * medians["plain"]

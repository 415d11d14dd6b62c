# SPDX-License-Identifier: MIT
"""The whole model: training steps and predictions on the native operations and on the reference backend."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from cases.crystals import labelled
from timing import compare

from dtnn_fast import DTNN, use_backend
from dtnn_fast.nn.graph import build_graph

# Native operations of a prediction and of a training step.
OPS = ("bond_vectors", "bond_to_atom_sum", "atom_to_bond_gather", "rank2_linear", "rank2_gate", "tensor_readout")


@cache
def model(device: str) -> DTNN:
    """The bundled model with its three targets."""
    return DTNN.from_pretrained("dielectric").to(device)


def on_reference_backend(call: Callable[[], Any]) -> Callable[[], Any]:
    """The same call on the reference backend."""

    def run() -> Any:
        with use_backend("reference"):
            return call()

    return run


def measure(benchmark: Any, case: str, pass_name: str, call: Callable[[], Any], device: str, once: bool) -> None:
    """Time the call on both backends and note what the report needs."""
    sides = {"native": [call], "eager": [on_reference_backend(call)]}
    compare(benchmark, f"DTNN with 3 targets, {case}, {pass_name}, {device}", sides, device, once=once)
    benchmark.extra_info |= {"op": "DTNN, 3 targets", "case": case, "pass": pass_name}


def need_kernels(device: str) -> None:
    """Skip where the build lacks one of the operations."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    for op in OPS:
        if not torch._C._dispatch_has_kernel_for_dispatch_key(f"dtnn_fast::{op}", device.upper()):
            pytest.skip(f"{op} has no {device.upper()} kernel in this build")


def test_prediction(benchmark, device: str, quick: bool) -> None:
    need_kernels(device)
    crystals = labelled()[: 4 if quick else 256]
    graph = model(device).graph(crystals)

    def predict() -> Any:
        with torch.no_grad():
            return model(device)(graph)

    measure(benchmark, f"{len(crystals)} crystals", "forward", predict, device, quick)


def test_training_step(benchmark, device: str, quick: bool) -> None:
    need_kernels(device)
    crystals = labelled()[:: 300 if quick else 15]
    network = model(device)
    graph = network.graph(crystals)

    def step() -> None:
        network.zero_grad()
        sum(tensors.square().mean() for tensors in network(graph).values()).backward()

    measure(benchmark, f"{len(crystals)} crystals", "forward+backward", step, device, quick)


def test_graph(benchmark, device: str, quick: bool) -> None:
    """Neighbor lists for the three cutoffs, which the reference implementation finds by brute force over all images."""
    if device != "cpu":
        pytest.skip("graphs are built on the CPU")
    crystals = labelled()[:: 300 if quick else 15]

    def build() -> Any:
        return build_graph(crystals, model("cpu").encoder.cutoffs)

    measure(benchmark, f"graphs of {len(crystals)} crystals", "forward", build, "cpu", quick)

# SPDX-License-Identifier: MIT
"""The whole model: training steps and predictions on the native operations and on the reference backend.

`eager` and `compiled` are the reference implementations on all atoms and bonds; `reduced` is the native model with one
atom and one bond of each symmetry orbit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import step_memory
import torch
from cases.crystals import labelled
from force_step import force_step
from timing import LINES, compare

from dtnn_fast import DTNN, use_backend
from dtnn_fast.encoders.native import NativeEncoder
from dtnn_fast.nn.graph import build_graph
from dtnn_fast.symmetry import with_operations

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


def in_bfloat16(call: Callable[[], Any]) -> Callable[[], Any]:
    """The same call with the matmul precision "medium", for which CPUs with AVX-512 BF16 multiply in bfloat16."""

    def run() -> Any:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("medium")
        try:
            return call()
        finally:
            torch.set_float32_matmul_precision(before)

    return run


def with_bfloat16(native: Callable[[], Any], reduced: Callable[[], Any]) -> dict[str, Callable[[], Any]]:
    """The calls, and that of the reference implementations, with products in bfloat16."""
    calls = {"native": native, "reduced": reduced, "eager": on_reference_backend(native)}
    return {f"{name}, bf16": in_bfloat16(call) for name, call in calls.items()}


def measure(
    benchmark: Any,
    case: str,
    pass_name: str,
    call: Callable[[], Any],
    device: str,
    once: bool,
    threads: int = 1,
    **more: Callable[[], Any],
) -> dict[str, float]:
    """Time the call on both backends, and more sides, and note what the report needs."""
    sides = {"native": [call], "eager": [on_reference_backend(call)]} | {name: [side] for name, side in more.items()}
    label = f"DTNN with 3 targets, {case}, {pass_name}, {device}"
    medians = compare(benchmark, label, sides, device, threads, once=once)
    benchmark.extra_info |= {"op": "DTNN, 3 targets", "case": case, "pass": pass_name}
    return medians


def need_kernels(device: str) -> None:
    """Skip where the build lacks one of the operations."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    for op in OPS:
        if not torch._C._dispatch_has_kernel_for_dispatch_key(f"dtnn_fast::{op}", device.upper()):
            pytest.skip(f"{op} has no {device.upper()} kernel in this build")


def test_prediction(benchmark, device: str, threads: int, quick: bool) -> None:
    """Graphs given: native, reference implementations in eager PyTorch and under torch.compile, and reduced graphs."""
    need_kernels(device)
    network = model(device)
    crystals = labelled()[: 4 if quick else 256]
    graph = network.graph(crystals)
    reduced = network.inference_graph(with_operations(crystals))
    compiled = torch.compile(network, backend="aot_eager" if quick else "inductor", dynamic=False)

    def predict(module: Any = network, given: Any = graph) -> Any:
        with torch.no_grad():
            return module(given)

    # The graphs of this module's calls must not share a compilation.
    more = {"compiled": on_reference_backend(lambda: predict(compiled)), "reduced": lambda: predict(given=reduced)}
    more["compiled"]()
    more |= with_bfloat16(predict, more["reduced"])
    measure(benchmark, f"{len(crystals)} crystals", "forward", predict, device, quick, threads, **more)


def test_predict_from_structures(benchmark, device: str, threads: int, quick: bool) -> None:
    """Checks, neighbor lists and tensors, as `DTNN.predict` does it, without and with known operations."""
    need_kernels(device)
    crystals = labelled()[:: 300 if quick else 15]
    symmetric = with_operations(crystals)
    network = model(device)
    more = {"reduced": lambda: network.predict_targets(symmetric)}
    call = partial(network.predict_targets, crystals)
    measure(benchmark, f"{len(crystals)} structures", "forward", call, device, quick, threads, **more)


def test_latency(benchmark, device: str, quick: bool) -> None:
    """One crystal of 8 atoms, from structure to tensor."""
    need_kernels(device)
    crystal = next(crystal for crystal in labelled() if crystal.num_atoms == 8)
    (symmetric,) = with_operations([crystal])
    network = model(device)
    more = {"reduced": lambda: network.predict_targets(symmetric)}
    call = partial(network.predict_targets, crystal)
    measure(benchmark, "one structure of 8 atoms", "forward", call, device, quick, **more)


def test_training_step(benchmark, device: str, threads: int, quick: bool) -> None:
    need_kernels(device)
    crystals = labelled()[:: 300 if quick else 15]
    network = model(device)
    graph, reduced = network.graph(crystals), network.inference_graph(with_operations(crystals))

    def step(given: Any = graph) -> None:
        network.zero_grad()
        sum(tensors.square().mean() for tensors in network(given).values()).backward()

    more = {"reduced": lambda: step(reduced)}
    more |= with_bfloat16(step, more["reduced"])
    measure(benchmark, f"{len(crystals)} crystals", "forward+backward", step, device, quick, threads, **more)


def test_force_training_step(benchmark, device: str, threads: int, quick: bool) -> None:
    """A loss on energies and forces of the encoder with a linear readout: forward, backward, double backward."""
    need_kernels(device)
    crystals = labelled()[:: 300 if quick else 60]
    encoder = model(device).encoder
    assert isinstance(encoder, NativeEncoder)
    step = force_step(encoder, model(device).graph(crystals))
    measure(benchmark, f"{len(crystals)} crystals", "forward+backward of forces", step, device, quick, threads)


def test_step_memory(device: str, quick: bool) -> None:
    """Peak memory of a training step, at most a third of the reference implementations'."""
    if device != "cpu" or not Path("/proc/self/clear_refs").exists():
        pytest.skip("reads the memory of a process from Linux")
    megabytes = step_memory.measure(8 if quick else 64)
    LINES.append("peak memory of a training step: " + ", ".join(f"{k} {v:.0f} MB" for k, v in megabytes.items()))
    assert quick or megabytes["native"] <= megabytes["eager"] / 3


def test_graph(benchmark, device: str, quick: bool) -> None:
    """Neighbor lists for the three cutoffs, which the reference implementation finds by brute force over all images."""
    if device != "cpu":
        pytest.skip("graphs are built on the CPU")
    crystals = labelled()[:: 300 if quick else 15]

    def build() -> Any:
        return build_graph(crystals, model("cpu").encoder.cutoffs)

    measure(benchmark, f"graphs of {len(crystals)} crystals", "forward", build, "cpu", quick)

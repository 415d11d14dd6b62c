# SPDX-License-Identifier: MIT
"""Instruction sets of the binary: equal bits where promised, and the accuracy of our sigmoid."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import random_graph
from torch import Tensor

from dtnn_fast.ops import neighbor_order

OPS = torch.ops.dtnn_fast
LEVELS = ("baseline", "avx2", "avx512")
# Channels that fill vectors of every width, and that do not.
CHANNELS = (1, 5, 19, 32, 37)


def results_without_products() -> list[Tensor]:
    """Run the operations with the same bits for any instruction set; products with the identity are exact."""
    results: list[Tensor] = []
    graph = random_graph(40, 300)
    order = neighbor_order(graph.pairs, 40)
    ptr = torch.tensor([0, 7, 8, 40])
    for dtype in (torch.float32, torch.float64):
        for channels in CHANNELS:
            generator = torch.Generator().manual_seed(channels)

            def random(*shape: int, dtype=dtype, generator=generator) -> Tensor:
                return 3 * torch.randn(shape, dtype=dtype, generator=generator)

            bonds, atoms = random(300, channels), random(40, channels)
            results.append(OPS.bond_to_atom_sum(bonds, *graph, *order, -1, 1))
            results.append(OPS.atom_to_bond_gather(atoms, *graph, *order, -1, 1))
            results.append(OPS.tensor_readout(atoms, random(40, 3, channels), random(40, 6, channels), ptr))
            identity = torch.eye(channels, dtype=dtype)
            for components in (1, 3, 6):
                x, grad = random(40, components, channels), random(40, components, channels)
                y, norm = OPS.rank2_linear_norm(x, identity, 0.01)
                results += [y, norm]
                results += OPS.rank2_linear_backward(grad, atoms, y, norm, x, identity, 0.01, True, False)
                out, linear = OPS.rank2_gate(x, atoms, identity, grad, True)
                grad_x, grad_gate, *_ = OPS.rank2_gate_backward(grad, x, atoms, identity, linear)
                results += [out, linear, grad_x, grad_gate]
    return results


def results_with_products() -> list[Tensor]:
    """Compute true products: FMA rounds once where the baseline rounds twice."""
    results: list[Tensor] = []
    for dtype in (torch.float32, torch.float64):
        for channels in CHANNELS:
            generator = torch.Generator().manual_seed(channels)
            x, y = torch.randn(2, 203, 3, channels, dtype=dtype, generator=generator)
            weight = torch.randn(channels, channels, dtype=dtype, generator=generator)
            results += [OPS.rank2_linear(x, weight), OPS.rank2_weight_grad(y, x)]
            results += OPS.rank2_linear_backward(y, None, None, None, x, weight, 0.0, True, True)
    return results


RUN = """
import sys
import torch
from test_simd_levels import results_with_products, results_without_products
torch.save((results_without_products(), results_with_products()), sys.argv[1])
"""


@pytest.fixture(scope="module")
def by_level(tmp_path_factory) -> dict[str, tuple[list[Tensor], list[Tensor]]]:
    """Compute the results of both functions at each level, in processes: the level is chosen when a process starts."""
    paths = [str(Path(__file__).parents[1]), str(Path(__file__).parent), *sys.path]
    results = {}
    for level in LEVELS:
        file = tmp_path_factory.mktemp("levels") / f"{level}.pt"
        environment = os.environ | {"DTNN_SIMD": level, "PYTHONPATH": os.pathsep.join(paths)}
        subprocess.run([sys.executable, "-P", "-c", RUN, str(file)], env=environment, check=True)
        results[level] = torch.load(file)
    return results


@pytest.mark.parametrize("level", LEVELS[1:])
def test_same_bits_without_products(by_level, level):
    for baseline, other in zip(by_level["baseline"][0], by_level[level][0], strict=True):
        assert torch.equal(baseline, other)


def test_products_have_the_same_bits_wherever_there_is_fma(by_level):
    for avx2, avx512 in zip(by_level["avx2"][1], by_level["avx512"][1], strict=True):
        assert torch.equal(avx2, avx512)


def test_products_of_the_baseline_differ_by_rounding_only(by_level):
    for baseline, best in zip(by_level["baseline"][1], by_level["avx512"][1], strict=True):
        tolerance = {"rtol": 1e-4, "atol": 1e-4} if best.dtype == torch.float32 else {"rtol": 1e-12, "atol": 1e-12}
        torch.testing.assert_close(baseline, best, **tolerance)


def sigmoid_of_the_gate(gate: Tensor) -> Tensor:
    """Compute the sigmoid of rank2_gate for a vector of numbers."""
    x = torch.ones(1, 1, len(gate), dtype=gate.dtype)
    out, _ = OPS.rank2_gate(x, gate[None], torch.eye(len(gate), dtype=gate.dtype), None, False)
    return out.flatten()


@pytest.mark.parametrize(("dtype", "least"), [(torch.float32, -87.0), (torch.float64, -708.0)])
def test_sigmoid_is_accurate_to_three_ulps(dtype, least):
    generator = torch.Generator().manual_seed(0)
    ranges = torch.tensor([1e-3, 1.0, 5.0, 20.0, -least], dtype=torch.float64)
    gate = (
        ((torch.rand(5, 400, generator=generator, dtype=torch.float64) * 2 - 1) * ranges[:, None]).flatten().to(dtype)
    )
    computed = sigmoid_of_the_gate(gate)
    worst = 0.0
    for x, got in zip(gate.tolist(), computed.tolist(), strict=True):
        e = math.exp(-abs(x))
        exact = (1.0 if x >= 0 else e) / (1 + e)  # float64 arithmetic: within 2 ulps of float64
        ulp = 2.0 ** (math.frexp(exact)[1] - (24 if dtype == torch.float32 else 53))
        worst = max(worst, abs(got - exact) / ulp)
    assert worst <= (3 if dtype == torch.float32 else 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sigmoid_at_the_ends(dtype):
    infinity = math.inf
    gate = torch.tensor([0.0, -0.0, infinity, -infinity, 1e30, -1e30, 800.0, -800.0, math.nan], dtype=dtype)
    out = sigmoid_of_the_gate(gate)
    assert out[:8].tolist() == [0.5, 0.5, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0]
    assert out[8].isnan()

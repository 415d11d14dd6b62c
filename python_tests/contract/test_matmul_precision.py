# SPDX-License-Identifier: MIT
"""Precision of matrix products: torch's setting reaches all operations with products.

On the CPU rank2_linear and rank2_gate ignore it; test_bf16_products.py has what the others make of it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from helpers import CallsOf
from model_cases import small_crystals

from dtnn_fast import DTNN
from dtnn_fast.ops import rank2_gate, rank2_linear

OPS = torch.ops.dtnn_fast
SETTINGS = ("highest", "high", "medium")


@pytest.fixture(autouse=True)
def restored_setting() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def inputs(seed: int = 0) -> list[torch.Tensor]:
    """Draw x, weight, gate."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, generator=generator, requires_grad=True) for size in ((6, 3, 5), (4, 5), (6, 4))]


def linear_and_gradients() -> list[torch.Tensor]:
    x, weight, _ = inputs()
    outputs = rank2_linear(x, weight, norm=True)
    grads = torch.autograd.grad(sum(t.sin().sum() for t in outputs), (x, weight), create_graph=True)
    return [*outputs, *grads, *torch.autograd.grad(sum(g.square().sum() for g in grads), (x, weight))]


def gate_and_gradients() -> list[torch.Tensor]:
    x, weight, gate = inputs()
    out = rank2_gate(x, gate, weight)
    grads = torch.autograd.grad(out.sin().sum(), (x, gate, weight), create_graph=True)
    return [out, *grads, *torch.autograd.grad(sum(g.square().sum() for g in grads), (x, gate, weight))]


PRODUCTS = ("rank2_linear", "rank2_linear_norm", "rank2_linear_backward", "rank2_weight_grad")
PRODUCTS += ("rank2_gate", "rank2_gate_backward")


@pytest.mark.parametrize("function", [linear_and_gradients, gate_and_gradients])
@pytest.mark.parametrize("setting", SETTINGS)
def test_every_product_gets_the_setting(function, setting: str) -> None:
    """Forward, backward and double backward use the setting."""
    torch.set_float32_matmul_precision(setting)
    seen = 0
    for name in PRODUCTS:
        with CallsOf(getattr(OPS, name).default) as calls:
            function()
        assert {arguments[-1] for arguments in calls.arguments} <= {SETTINGS.index(setting)}
        seen += len(calls.arguments)
    assert seen > 4


# Fused networks, all of which the bundled model uses.
NETWORKS = ("bond_messages", "bond_perceptron_sum", "decode", "atom_update", "atom_readout")


def network_calls(name: str) -> tuple[CallsOf, CallsOf]:
    """Record the calls of a network and of its backward in a step of the bundled model."""
    model = DTNN.from_pretrained("dielectric-total")
    graph = model.graph(small_crystals(2))
    with CallsOf(getattr(OPS, name).default) as forward, CallsOf(getattr(OPS, f"{name}_backward").default) as backward:
        model(graph)["total"].sum().backward()
    return forward, backward


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("setting", SETTINGS)
def test_every_network_gets_the_setting(name: str, setting: str) -> None:
    torch.set_float32_matmul_precision(setting)
    for calls in network_calls(name):
        assert {arguments[-1] for arguments in calls.arguments} == {SETTINGS.index(setting)}


@pytest.mark.parametrize("name", NETWORKS)
def test_invalid_precision_of_a_network(name: str) -> None:
    for op, calls in zip((name, f"{name}_backward"), network_calls(name), strict=True):
        with pytest.raises(RuntimeError, match=rf"{op}: expected `precision` 0 \(float32\), 1 .* got 3"):
            getattr(OPS, op)(*calls.arguments[0][:-1], 3)


def test_the_backward_keeps_the_setting_of_its_forward() -> None:
    torch.set_float32_matmul_precision("high")
    x, weight, _ = inputs()
    y = rank2_linear(x, weight)
    torch.set_float32_matmul_precision("highest")
    with CallsOf(OPS.rank2_linear_backward.default) as calls:
        y.sum().backward()
    assert [arguments[-1] for arguments in calls.arguments] == [1]


@pytest.mark.parametrize("function", [linear_and_gradients, gate_and_gradients])
def test_the_cpu_ignores_it(function) -> None:
    results = []
    for setting in SETTINGS:
        torch.set_float32_matmul_precision(setting)
        results.append(function())
    for other in results[1:]:
        for result, expected in zip(other, results[0], strict=True):
            assert torch.equal(result, expected)


def test_compiled_code_follows_a_change() -> None:
    seen = []

    def backend(module, _):
        calls = [node for node in module.graph.nodes if node.target in (OPS.rank2_linear, OPS.rank2_linear.default)]
        seen.extend(node.args[2] if len(node.args) > 2 else 0 for node in calls)
        return module.forward

    compiled = torch.compile(rank2_linear, backend=backend, fullgraph=True)
    x, weight, _ = inputs()
    for setting in ("highest", "high", "highest"):
        torch.set_float32_matmul_precision(setting)
        compiled(x, weight)
    assert seen == [0, 1]  # compiled once for each


@pytest.mark.parametrize("precision", [-1, 3])
def test_invalid_precision(precision: int) -> None:
    x, weight, _ = (t.detach() for t in inputs())
    message = rf"expected `precision` 0 \(float32\), 1 \(tf32\) or 2 \(bfloat16\), got {precision}"
    with pytest.raises(RuntimeError, match=f"rank2_linear: {message}"):
        OPS.rank2_linear(x, weight, precision)
    with pytest.raises(RuntimeError, match=f"rank2_linear: {message}"):
        OPS.rank2_linear_norm(x, weight, 0.01, precision)
    with pytest.raises(RuntimeError, match=f"rank2_linear_backward: {message}"):
        OPS.rank2_linear_backward(x @ weight.t(), None, None, None, x, weight, 0.01, True, True, precision)
    with pytest.raises(RuntimeError, match=f"rank2_weight_grad: {message}"):
        OPS.rank2_weight_grad(x, x, precision)

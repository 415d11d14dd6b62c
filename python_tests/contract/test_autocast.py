# SPDX-License-Identifier: MIT
"""torch.autocast and 16-bit inputs: operations compute in float32, or raise a clear error."""

from __future__ import annotations

import pytest
import torch
from model_cases import config, randomised, small_crystals
from op_cases import FUNCTIONS, batch, leaves, on, outputs, scalar

from dtnn_fast import ops

HALVES = [torch.bfloat16, torch.float16]
# 16 bits are too few for positions.
ON_POSITIONS = {"bond_vectors", "bond_geometry"}
# They add 16-bit values in float32 on the CPU, and keep their dtype as torch's scatter and index operations do.
TAKES_16_BITS = [name for name in FUNCTIONS if name.startswith(("bond_to_atom_sum", "atom_to_bond_gather"))]
IN_FLOAT32 = [name for name in FUNCTIONS if name not in (*ON_POSITIONS, *TAKES_16_BITS)]


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", IN_FLOAT32)
def test_computes_in_float32_with_gradients_in_the_dtype_of_the_inputs(name, dtype, device):
    case = FUNCTIONS[name]
    arguments = on(case.arguments(batch(3)), device, dtype)
    moving = leaves(arguments)
    with torch.autocast(device, dtype):
        out = case.call(*arguments)
    wide = on(arguments, device, torch.float32)
    expected = case.call(*wide)
    for result, same in zip(outputs(out), outputs(expected), strict=True):
        assert result.dtype == torch.float32
        assert torch.equal(result, same)
    gradients = torch.autograd.grad(scalar(out), moving)
    assert {g.dtype for g in gradients} == {dtype}
    exact = torch.autograd.grad(scalar(expected), [x for x in wide if x.is_floating_point()])
    torch.testing.assert_close(gradients, tuple(g.to(dtype) for g in exact))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", TAKES_16_BITS)
def test_sums_and_gathers_keep_16_bits(name, dtype):
    case = FUNCTIONS[name]
    arguments = on(case.arguments(batch(3)), "cpu", dtype)
    (values,) = leaves(arguments)
    compiled = torch.compile(case.call, fullgraph=True, backend="aot_eager")
    wide = on(arguments, "cpu", torch.float32)
    (wide_values,) = leaves(wide)
    expected = case.call(*wide)
    slope = torch.randn(expected.shape, dtype=dtype)
    (exact,) = torch.autograd.grad(expected, wide_values, slope.float())
    for call in (case.call, compiled):
        for enabled in (True, False):
            with torch.autocast("cpu", dtype, enabled=enabled):
                out = call(*arguments)
            assert out.dtype == dtype
            assert torch.equal(out, expected.to(dtype))  # rounded once
            (gradient,) = torch.autograd.grad(out, values, slope)
            assert torch.equal(gradient, exact.to(dtype))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32_and_float64_are_not_cast(name, device):
    case = FUNCTIONS[name]
    for dtype in (torch.float32, torch.float64):
        arguments = on(case.arguments(batch(3)), device, dtype)
        with torch.autocast(device, torch.bfloat16):
            out = outputs(case.call(*arguments))
        assert all(torch.equal(a, b) for a, b in zip(out, outputs(case.call(*arguments)), strict=True))


@pytest.mark.parametrize("inputs", ["outside", "on positions"])
@pytest.mark.parametrize("dtype", HALVES)
def test_errors_name_the_argument(inputs, dtype, device):
    names = [*IN_FLOAT32, *ON_POSITIONS] if inputs == "outside" else ON_POSITIONS
    for name in names:
        arguments = on(FUNCTIONS[name].arguments(batch(2)), device, dtype)
        message = rf"{name.split()[0]}: expected `\w+` of dtype float32 or float64, got b?float16"
        with (
            torch.autocast(device, dtype, enabled=inputs != "outside"),
            pytest.raises(RuntimeError, match=message),
        ):
            FUNCTIONS[name].call(*arguments)
    b = batch(2)
    with (
        torch.autocast(device, dtype),
        pytest.raises(RuntimeError, match="neighbor_list: expected `positions` of dtype float32 or float64, got"),
    ):
        ops.neighbor_list(b.positions.to(device, dtype), b.cell.to(device, dtype), b.pbc.to(device), 2.4)


def test_backward_inside_of_autocast_is_the_same(device):
    arguments = on(FUNCTIONS["rank2_gate"].arguments(batch(3)), device, torch.float32)
    moving = leaves(arguments)
    gradients = []
    for region in ("forward", "both"):
        with torch.autocast(device, torch.bfloat16):
            out = scalar(FUNCTIONS["rank2_gate"].call(*arguments))
        with torch.autocast(device, torch.bfloat16, enabled=region == "both"):
            first = torch.autograd.grad(out, moving, create_graph=True)
            second = torch.autograd.grad(scalar(first), moving)
        gradients.append((first, second))
    torch.testing.assert_close(*gradients)


def test_compiled(device):
    def under_autocast(x, weight):
        with torch.autocast(device, torch.bfloat16):
            # torch's own product is in bfloat16, and its result goes into an operation.
            return ops.rank2_linear(x @ weight.t() @ weight, weight, norm=True)[1]

    arguments = on(FUNCTIONS["rank2_linear"].arguments(batch(3)), device, torch.float32)
    leaves(arguments)
    compiled = torch.compile(under_autocast, fullgraph=True, backend="aot_eager")
    for call in (under_autocast, compiled):
        assert call(*arguments).dtype == torch.float32
    results = [torch.autograd.grad(scalar(call(*arguments)), arguments) for call in (under_autocast, compiled)]
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("dtype", HALVES)
def test_model(dtype, device):
    model = randomised(config(3)).float().to(device)
    graph = model.graph(small_crystals(6, max_atoms=4))
    with torch.autocast(device, dtype):
        tensors = model(graph)["total"]
    gradients = torch.autograd.grad(tensors.square().sum(), list(model.parameters()))
    expected = model(graph)["total"]
    assert tensors.dtype == torch.float32
    assert {g.dtype for g in gradients} == {torch.float32}
    assert (tensors - expected).abs().max() < 1e-3 * expected.abs().max()
    exact = torch.autograd.grad(expected.square().sum(), list(model.parameters()))
    difference = torch.stack([(a - b).norm() for a, b in zip(gradients, exact, strict=True)]).norm()
    assert difference < 0.02 * torch.stack([g.norm() for g in exact]).norm()

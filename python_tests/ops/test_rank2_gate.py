# SPDX-License-Identifier: MIT
"""rank2_gate: gated channel mixing with a residual."""

from __future__ import annotations

import itertools

import pytest
import torch
from helpers import CallsOf, check_compiled, check_first_and_second_derivatives, check_operator, check_same_bits

from dtnn_fast import reference, use_backend
from dtnn_fast.ops import rank2_gate

OPS = torch.ops.dtnn_fast
# N, K, C, D: among them channels that fill vectors exactly, with remainders, one, none, and many blocks of atoms.
SHAPES = [(7, 1, 5, 3), (50, 3, 32, 32), (50, 6, 19, 37), (700, 6, 64, 1), (2000, 3, 128, 48), (1, 6, 1, 1)]
EMPTY_SHAPES = [(0, 3, 4, 5), (4, 3, 0, 5), (4, 6, 5, 0)]


def random_inputs(shape, dtype=torch.float64, seed=0):
    """x, gate, weight, residual."""
    n, k, c, d = shape
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, dtype=dtype, generator=generator) for size in ((n, k, c), (n, d), (d, c), (n, k, d))]


@pytest.mark.parametrize("shape", SHAPES + EMPTY_SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("with_residual", [False, True])
def test_equals_reference_with_gradients(shape, dtype, with_residual):
    inputs = random_inputs(shape, dtype)[: 4 if with_residual else 3]
    results = []
    for backend in ("native", "reference"):
        leaves = [t.clone().requires_grad_() for t in inputs]
        with use_backend(backend):
            out = rank2_gate(*leaves)
        out.sin().sum().backward()
        results.append((out, *(t.grad for t in leaves)))
    # The sums over up to 6000 rows and 128 channels differ in order.
    tolerance = {"rtol": 1e-4, "atol": 2e-3} if dtype == torch.float32 else {"rtol": 1e-12, "atol": 1e-11}
    torch.testing.assert_close(*results, **tolerance)


def test_hand_written_case():
    x = torch.tensor([[[1.0, 0.0], [2.0, 1.0], [0.0, -1.0]]])
    weight = torch.tensor([[1.0, 1.0], [2.0, 0.0]])
    gate = torch.tensor([[0.0, 100.0]])
    residual = torch.tensor([[[10.0, 20.0], [0.0, 0.0], [0.0, 0.0]]])
    out = rank2_gate(x, gate, weight, residual)
    assert out[0].tolist() == [[10.5, 22.0], [1.5, 4.0], [-0.5, 0.0]]


@pytest.mark.parametrize("shape", [(3, 1, 2, 4), (2, 3, 3, 2), (2, 6, 2, 3)])
def test_first_and_second_derivatives(shape):
    x, gate, weight, residual = random_inputs(shape)
    check_first_and_second_derivatives(lambda *a: rank2_gate(*a) ** 2, x, gate, weight, residual)
    check_first_and_second_derivatives(rank2_gate, x, gate, weight)


@pytest.mark.parametrize("moving", [0, 1, 2])
def test_first_and_second_derivatives_with_one_input_moving(moving):
    inputs = random_inputs((2, 3, 3, 2))
    check_first_and_second_derivatives(
        lambda t: rank2_gate(*inputs[:moving], t, *inputs[moving + 1 :]) ** 2, inputs[moving]
    )


@pytest.mark.parametrize("save_linear", [False, True])
def test_first_and_second_derivatives_of_both_outputs(save_linear):
    """The saved linear part is an output too, and second derivatives flow through it."""
    x, gate, weight, _ = random_inputs((2, 3, 3, 2))
    check_first_and_second_derivatives(lambda *a: OPS.rank2_gate(*a, None, save_linear), x, gate, weight)


@pytest.mark.parametrize("components", [1, 3, 6])
def test_opcheck(components):
    x, gate, weight, residual = (t.requires_grad_() for t in random_inputs((4, components, 3, 5)))
    grad_out, mixed = torch.randn(2, 4, components, 5, dtype=torch.float64)
    for save_linear in (False, True):
        check_operator(OPS.rank2_gate.default, x, gate, weight, residual, save_linear)
        check_operator(OPS.rank2_gate.default, x, gate, weight, None, save_linear)
    check_operator(OPS.rank2_gate_backward.default, grad_out.requires_grad_(), x, gate, weight, mixed.requires_grad_())


def test_same_bits_for_any_number_of_threads():
    x, gate, weight, residual = random_inputs((5000, 3, 32, 24), torch.float32)
    grad_out = torch.randn(5000, 3, 24)

    def forward_and_backward():
        out, linear = OPS.rank2_gate(x, gate, weight, residual, True)
        return out, linear, *OPS.rank2_gate_backward(grad_out, x, gate, weight, linear)

    check_same_bits(forward_and_backward)


@pytest.mark.parametrize("needed", list(itertools.product([False, True], repeat=3)))
def test_backward_returns_what_is_needed(needed):
    x, gate, weight, residual = random_inputs((40, 3, 8, 5))
    mixed = OPS.rank2_linear(x, weight)
    every = OPS.rank2_gate_backward(residual, x, gate, weight, mixed)
    some = OPS.rank2_gate_backward(residual, x, gate, weight, mixed if needed[1] else None, *needed)
    for grad, whole, need in zip(some, every, needed, strict=True):
        if need:
            torch.testing.assert_close(grad, whole)
        else:
            assert grad.shape == (0,)


def test_linear_part_is_saved_only_for_the_gradient_of_the_gate():
    inputs = random_inputs((5, 3, 4, 2))
    for place in range(3):
        leaves = [t.clone().requires_grad_(i == place) for i, t in enumerate(inputs)]
        with CallsOf(OPS.rank2_gate.default) as calls:
            rank2_gate(*leaves)
        assert [arguments[4] for arguments in calls.arguments] == [place == 1]


def test_linear_part_is_kept_only_for_gradients():
    x, gate, weight, residual = random_inputs((5, 3, 4, 2))
    out, linear = OPS.rank2_gate(x, gate, weight, residual, True)
    assert torch.equal(linear, OPS.rank2_linear(x, weight))
    without, empty = OPS.rank2_gate(x, gate, weight, residual, False)
    assert torch.equal(without, out)
    assert empty.shape == (0,)


def test_non_contiguous_inputs():
    inputs = random_inputs((20, 3, 8, 8))
    strided = [t.transpose(0, -1).contiguous().transpose(0, -1).requires_grad_() for t in inputs]
    assert not any(t.is_contiguous() for t in strided)
    out = rank2_gate(*strided)
    torch.testing.assert_close(out, reference.rank2_gate(*inputs))
    grads = torch.autograd.grad(out.sum(), strided)  # the gradient of a sum is expanded from one number
    expected = torch.autograd.grad(reference.rank2_gate(*strided).sum(), strided)
    torch.testing.assert_close(grads, expected)


@pytest.mark.parametrize("with_residual", [False, True])
def test_compiled(with_residual):
    count = 4 if with_residual else 3
    check_compiled(rank2_gate, *(tuple(random_inputs((n, 3, 8, 5), seed=n)[:count]) for n in (4, 9, 17)))


def bad(message, **change):
    return pytest.param(message, change, id=message[:40])


@pytest.mark.parametrize(
    ("message", "change"),
    [
        bad("expected `x` of dtype float32 or float64, got int64", x=torch.ones(2, 3, 4, dtype=torch.int64)),
        bad(r"expected `x` of shape [N, K, C] with K = 1, 3 or 6, got [2, 2, 4]", x=torch.ones(2, 2, 4)),
        bad(r"expected `gate` of shape [N, D] = [2, 5], got [2, 4]", gate=torch.ones(2, 4)),
        bad("expected `gate` of the dtype of `x` (float32), got float64", gate=torch.ones(2, 5).double()),
        bad(r"expected `weight` of shape [D, C] with C = 4 as in `x`, got [5, 3]", weight=torch.ones(5, 3)),
        bad(r"expected `residual` of shape [N, K, D] = [2, 3, 5], got [2, 1, 5]", residual=torch.ones(2, 1, 5)),
        bad("expected `residual` on the device of `x` (cpu), got meta", residual=torch.ones(2, 3, 5, device="meta")),
        bad("expected `gate` on the device of `x` (cpu), got meta", gate=torch.ones(2, 5, device="meta")),
    ],
)
def test_bad_input(message, change):
    arguments = {
        "x": torch.ones(2, 3, 4),
        "gate": torch.ones(2, 5),
        "weight": torch.ones(5, 4),
        "residual": torch.ones(2, 3, 5),
    } | change
    with pytest.raises(RuntimeError) as error:
        rank2_gate(**arguments)
    assert f"rank2_gate: {message}" in str(error.value)


def test_bad_input_of_backward():
    x, gate, weight, grad_out = torch.ones(2, 3, 4), torch.ones(2, 5), torch.ones(5, 4), torch.ones(2, 3, 5)
    with pytest.raises(RuntimeError, match="rank2_gate_backward: expected `linear` of shape"):
        OPS.rank2_gate_backward(grad_out, x, gate, weight, torch.ones(0))
    with pytest.raises(RuntimeError, match="rank2_gate_backward: expected `grad_out` of the dtype"):
        OPS.rank2_gate_backward(grad_out.double(), x, gate, weight, grad_out)
    with pytest.raises(RuntimeError, match="expected `linear` for the gradient of `gate`, got none"):
        OPS.rank2_gate_backward(grad_out, x, gate, weight, None)
    with pytest.raises(RuntimeError, match=r"rank2_gate_backward: expected `precision` 0 \(float32\)"):
        OPS.rank2_gate_backward(grad_out, x, gate, weight, grad_out, True, True, True, -1)
    with pytest.raises(RuntimeError, match=r"rank2_gate: expected `precision` 0 \(float32\)"):
        OPS.rank2_gate(x, gate, weight, None, False, 3)

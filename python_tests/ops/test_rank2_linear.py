# SPDX-License-Identifier: MIT
"""rank2_linear: channel mixing of scalars, vectors and rank-2 tensors, with norms."""

from __future__ import annotations

import pytest
import torch
from helpers import check_compiled, check_first_and_second_derivatives, check_operator, check_same_bits

from dtnn_fast import reference, use_backend
from dtnn_fast.ops import rank2_linear

OPS = torch.ops.dtnn_fast
# N, K, C, D: among them channels that fill vectors exactly, with remainders, one, none, and many blocks of atoms.
SHAPES = [(7, 1, 5, 3), (50, 3, 32, 32), (50, 6, 19, 37), (700, 6, 64, 1), (3000, 3, 128, 48), (1, 6, 1, 1)]
EMPTY_SHAPES = [(0, 3, 4, 5), (4, 3, 0, 5), (4, 6, 5, 0), (0, 1, 0, 0)]


def random_inputs(shape, dtype=torch.float64, seed=0):
    n, k, c, d = shape
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, k, c, dtype=dtype, generator=generator)
    return x, torch.randn(d, c, dtype=dtype, generator=generator)


@pytest.mark.parametrize("shape", SHAPES + EMPTY_SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("norm", [False, True])
def test_equals_reference_with_gradients(shape, dtype, norm):
    inputs = random_inputs(shape, dtype)
    results = []
    for backend in ("native", "reference"):
        x, weight = (t.clone().requires_grad_() for t in inputs)
        with use_backend(backend):
            out = rank2_linear(x, weight, norm=True, eps=0.1) if norm else (rank2_linear(x, weight),)
        sum((o.sin() * (i + 1)).sum() for i, o in enumerate(out)).backward()
        results.append((*out, x.grad, weight.grad))
    # The sums over up to 9000 rows and 128 channels differ in order.
    tolerance = {"rtol": 1e-4, "atol": 2e-3} if dtype == torch.float32 else {"rtol": 1e-12, "atol": 1e-11}
    torch.testing.assert_close(*results, **tolerance)


def test_hand_written_case():
    x = torch.tensor([[[1.0, 0.0], [2.0, 0.0], [2.0, 0.0], [0.0, 3.0], [0.0, 0.0], [0.0, 0.0]]])
    y, norm = rank2_linear(x, torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, -1.0]]), norm=True, eps=1e-6)
    assert y[0].t().tolist() == [[1, 2, 2, 0, 0, 0], [0, 0, 0, 3, 0, 0], [1, 2, 2, -3, 0, 0]]
    # Off-diagonals count twice: 2 * 3^2 = 18 and 9 + 18 = 27.
    torch.testing.assert_close(norm, torch.tensor([[3.0, 18.0**0.5, 27.0**0.5]]))


def test_norm_is_smooth_at_zero():
    x = torch.zeros(1, 3, 2, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 2, dtype=torch.float64)
    _, norm = rank2_linear(x, weight, norm=True)
    assert not norm.any()
    (grad,) = torch.autograd.grad(norm.sum(), x, create_graph=True)
    assert not grad.any()
    (second,) = torch.autograd.grad(grad[0, 0, 0], x)
    # |y| ~ y^2 / (2 eps), whose second derivative is weight^T weight / eps.
    torch.testing.assert_close(second[0, 0], (weight.t() @ weight)[0] / 0.01)


@pytest.mark.parametrize("shape", [(3, 1, 2, 4), (2, 3, 3, 2), (2, 6, 2, 3)])
def test_first_and_second_derivatives(shape):
    x, weight = random_inputs(shape)
    grad_y = torch.randn(shape[0], shape[1], shape[3], dtype=torch.float64)
    check_first_and_second_derivatives(lambda a, b: rank2_linear(a, b) ** 2, x, weight)
    check_first_and_second_derivatives(lambda a, b: rank2_linear(a, b, norm=True, eps=0.5), x, weight)
    check_first_and_second_derivatives(lambda a, b: rank2_linear(a, b, norm=True, eps=0.5)[1], x, weight)
    check_first_and_second_derivatives(lambda g, a: OPS.rank2_weight_grad(g, a) ** 2, grad_y, x)


@pytest.mark.parametrize("fixed", ["x", "weight"])
def test_first_and_second_derivatives_with_one_input_fixed(fixed):
    x, weight = random_inputs((2, 3, 3, 2))
    if fixed == "x":
        check_first_and_second_derivatives(lambda w: rank2_linear(x, w, norm=True, eps=0.5), weight)
    else:
        check_first_and_second_derivatives(lambda a: rank2_linear(a, weight, norm=True, eps=0.5), x)


@pytest.mark.parametrize("components", [1, 3, 6])
def test_opcheck(components):
    x, weight = (t.requires_grad_() for t in random_inputs((4, components, 3, 5)))
    grad_y, grad_norm = torch.randn(4, components, 5, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)
    y, norm = (t.detach() for t in rank2_linear(x, weight, norm=True))
    check_operator(OPS.rank2_linear.default, x, weight)
    check_operator(OPS.rank2_linear_norm.default, x, weight, 0.01)
    check_operator(OPS.rank2_weight_grad.default, grad_y.requires_grad_(), x)
    grads = [t.requires_grad_() for t in (grad_y, grad_norm, y, norm)]
    for given in ([*grads], [None, *grads[1:]], [grads[0], None, None, None]):
        for need_x, need_weight in ((True, True), (True, False), (False, True)):
            check_operator(OPS.rank2_linear_backward.default, *given, x, weight, 0.01, need_x, need_weight)


def test_same_bits_for_any_number_of_threads():
    x, weight = random_inputs((5000, 3, 32, 24), torch.float32)
    grad_y, grad_norm = torch.randn(5000, 3, 24), torch.randn(5000, 24)

    def forward_and_backward():
        y, norm = OPS.rank2_linear_norm(x, weight, 0.01)
        grads = OPS.rank2_linear_backward(grad_y, grad_norm, y, norm, x, weight, 0.01, True, True)
        return y, norm, *grads, OPS.rank2_weight_grad(grad_y, x)

    check_same_bits(forward_and_backward)


def test_atoms_do_not_depend_on_their_batch():
    x, weight = random_inputs((3001, 3, 32, 24), torch.float32)
    assert torch.equal(rank2_linear(x, weight)[1500:1510], rank2_linear(x[1500:1510], weight))


def test_non_contiguous_inputs():
    x, weight = random_inputs((20, 3, 8, 8))
    strided, turned = x.transpose(0, 2).contiguous().transpose(0, 2), weight.t()
    assert not strided.is_contiguous()
    expected = reference.rank2_linear(x, turned, norm=True)
    torch.testing.assert_close(rank2_linear(strided, turned, norm=True), expected)
    grad = torch.randn(20, 3, dtype=torch.float64)[:, :, None].expand(20, 3, 8)
    torch.testing.assert_close(OPS.rank2_weight_grad(grad, strided), torch.einsum("nkd,nkc->dc", grad, x))


@pytest.mark.parametrize("norm", [False, True])
def test_compiled(norm):
    weight = random_inputs((1, 3, 8, 5))[1]
    batches = [(random_inputs((n, 3, 8, 5), seed=n)[0], weight) for n in (4, 9, 17)]
    if norm:
        check_compiled(lambda x, w: torch.cat([t.flatten() for t in rank2_linear(x, w, norm=True)]), *batches)
    else:
        check_compiled(rank2_linear, *batches)


def bad(message, norm=False, **change):
    return pytest.param(message, norm, change, id=message[:40])


@pytest.mark.parametrize(
    ("message", "norm", "change"),
    [
        bad("expected `x` of dtype float32 or float64, got int64", x=torch.ones(2, 3, 4, dtype=torch.int64)),
        bad("expected `x` of dtype float32 or float64, got float16", x=torch.ones(2, 3, 4, dtype=torch.float16)),
        bad(r"expected `x` of shape [N, K, C], got [3, 4]", x=torch.ones(3, 4)),
        bad(r"expected `x` of shape [N, K, C] with K = 1, 3 or 6, got [2, 4, 4]", x=torch.ones(2, 4, 4)),
        bad(r"expected `weight` of shape [D, C] with C = 4 as in `x`, got [5, 3]", weight=torch.ones(5, 3)),
        bad(r"expected `weight` of shape [D, C] with C = 4 as in `x`, got [4]", weight=torch.ones(4)),
        bad("expected `weight` of the dtype of `x` (float32), got float64", weight=torch.ones(5, 4).double()),
        bad("expected `weight` on the device of `x` (cpu), got meta", weight=torch.ones(5, 4, device="meta")),
        bad("expected `weight` on the device of `x` (meta), got cpu", x=torch.ones(2, 3, 4, device="meta")),
        bad("expected `eps` above 0 and finite, got 0", norm=True, eps=0.0),
        bad("expected `eps` above 0 and finite, got nan", norm=True, eps=float("nan")),
        bad("expected `eps` with a square that float32 can hold, got 1e-30", norm=True, eps=1e-30),
        bad("expected `weight` to be a tensor, got None", weight=None),
    ],
)
def test_bad_input(message, norm, change):
    arguments = {"x": torch.ones(2, 3, 4), "weight": torch.ones(5, 4)} | change
    with pytest.raises(RuntimeError) as error:
        rank2_linear(**arguments, norm=norm)
    assert f"rank2_linear: {message}" in str(error.value)


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("expected `grad_y` or `grad_norm`, got neither", (None, None, None, None)),
        ("expected `y` and `norm` with `grad_norm`, got none", (None, torch.ones(2, 5), None, None)),
        (r"expected `grad_y` of shape [N, K, D] = [2, 3, 5], got [2, 3, 4]", (torch.ones(2, 3, 4), None, None, None)),
        (
            r"expected `norm` of shape [N, D] = [2, 5], got [1, 5]",
            (None, torch.ones(2, 5), torch.ones(2, 3, 5), torch.ones(1, 5)),
        ),
    ],
)
def test_bad_input_of_backward(message, arguments):
    with pytest.raises(RuntimeError) as error:
        OPS.rank2_linear_backward(*arguments, torch.ones(2, 3, 4), torch.ones(5, 4), 0.01, True, True)
    assert f"rank2_linear_backward: {message}" in str(error.value)

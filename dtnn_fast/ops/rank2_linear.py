# SPDX-License-Identifier: MIT
"""Channel mixing of scalars, vectors and rank-2 tensors."""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor

from .._backend import reference_implementations, uses_reference
from ._rank2 import add, component_weights, linear, matmul_precision, weight_grad
from ._registration import check_same_device, register_autocast, register_derivatives, register_vmap, samples_as_rows


@overload
def rank2_linear(x: Tensor, weight: Tensor, norm: Literal[False] = False, eps: float = 0.01) -> Tensor: ...
@overload
def rank2_linear(x: Tensor, weight: Tensor, norm: Literal[True], eps: float = 0.01) -> tuple[Tensor, Tensor]: ...


def rank2_linear(x: Tensor, weight: Tensor, norm: bool = False, eps: float = 0.01) -> Tensor | tuple[Tensor, Tensor]:
    """Mix the channels of each tensor component: the linear maps L of the decoder of arXiv 2405.09052.

    ``y[n, k, d] = sum_c weight[d, c] x[n, k, c]``, and with ``norm`` also ``sqrt(sum_k w_k y_k^2 + eps^2) - eps``,
    which is 0 at 0 and smooth to every order; w counts the off-diagonals of the 6-component form twice.

    On CUDA, products in float32 follow ``torch.set_float32_matmul_precision``: "highest" computes them in float32,
    "high" rounds the factors to tf32 and "medium" to bfloat16, here and in the gradients. The CPU always computes in
    float32.

    Args:
        x: scalars (K = 1), vectors (3) or symmetric tensors (6: xx yy zz yz xz xy). [N, K, C], float32 or float64.
        weight: the linear map. [D, C], dtype of `x`.
        norm: also return the norms of the mixed channels.
        eps: length over which the norm is smoothed, above 0. float, unit of `x @ weight.T`.

    Returns:
        y [N, K, D], or (y, norms [N, D]) with `norm`; dtype of `x`.

    Raises:
        RuntimeError: a shape, dtype or device does not fit, or `eps` is not above 0.

    Example:
        >>> x, weight = torch.tensor([[[3.0], [0.0], [4.0]]]), torch.tensor([[2.0]])
        >>> rank2_linear(x, weight).flatten()
        tensor([6., 0., 8.])
    """
    if uses_reference():
        return reference_implementations().rank2_linear(x, weight, norm, eps)
    if norm:
        return torch.ops.dtnn_fast.rank2_linear_norm(x, weight, eps, matmul_precision())
    return torch.ops.dtnn_fast.rank2_linear(x, weight, matmul_precision())


@torch.library.register_fake("dtnn_fast::rank2_linear")
def _fake(x: Tensor, weight: Tensor, precision: int = 0) -> Tensor:
    check_same_device("rank2_linear", x=x, weight=weight)
    return x.new_empty((*x.shape[:2], weight.shape[0]))


@torch.library.register_fake("dtnn_fast::rank2_linear_norm")
def _fake_norm(x: Tensor, weight: Tensor, eps: float, precision: int = 0) -> tuple[Tensor, Tensor]:
    check_same_device("rank2_linear", x=x, weight=weight)
    return x.new_empty((*x.shape[:2], weight.shape[0])), x.new_empty((x.shape[0], weight.shape[0]))


@torch.library.register_fake("dtnn_fast::rank2_weight_grad")
def _fake_weight_grad(grad_y: Tensor, x: Tensor, precision: int = 0) -> Tensor:
    check_same_device("rank2_weight_grad", x=x, grad_y=grad_y)
    return x.new_empty((grad_y.shape[2], x.shape[2]))


@torch.library.register_fake("dtnn_fast::rank2_linear_backward")
def _fake_backward(
    grad_y: Tensor | None,
    grad_norm: Tensor | None,
    y: Tensor | None,
    norm: Tensor | None,
    x: Tensor,
    weight: Tensor,
    eps: float,
    need_x: bool,
    need_weight: bool,
    precision: int = 0,
) -> tuple[Tensor, Tensor]:
    check_same_device("rank2_linear_backward", x=x, weight=weight, grad_y=grad_y, grad_norm=grad_norm, y=y, norm=norm)
    return x.new_empty(x.shape if need_x else (0,)), x.new_empty(weight.shape if need_weight else (0,))


def _setup_linear(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    *tensors, ctx.precision = inputs
    ctx.save_for_backward(*tensors)


def _linear_backward(ctx, grad_y):  # type: ignore[no-untyped-def]
    x, weight = ctx.saved_tensors
    need_x, need_weight, _ = ctx.needs_input_grad
    grad_x, grad_weight = torch.ops.dtnn_fast.rank2_linear_backward(
        grad_y, None, None, None, x, weight, 0.0, need_x, need_weight, ctx.precision
    )
    return grad_x if need_x else None, grad_weight if need_weight else None, None


def _setup_linear_norm(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    x, weight, ctx.eps, ctx.precision = inputs
    ctx.save_for_backward(x, weight, *output)
    ctx.set_materialize_grads(False)


def _linear_norm_backward(ctx, grad_y, grad_norm):  # type: ignore[no-untyped-def]
    x, weight, y, norm = ctx.saved_tensors
    need_x, need_weight, *_ = ctx.needs_input_grad
    if grad_y is None and grad_norm is None:
        return None, None, None, None
    grad_x, grad_weight = torch.ops.dtnn_fast.rank2_linear_backward(
        grad_y, grad_norm, y, norm, x, weight, ctx.eps, need_x, need_weight, ctx.precision
    )
    return grad_x if need_x else None, grad_weight if need_weight else None, None, None


def _setup_backward(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    *tensors, ctx.eps, ctx.need_x, ctx.need_weight, ctx.precision = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _backward_backward(ctx, grad_grad_x, grad_grad_weight):  # type: ignore[no-untyped-def]
    grad_y, grad_norm, saved_y, saved_norm, x, weight = ctx.saved_tensors
    grad_grad_x = grad_grad_x if ctx.need_x else None
    grad_grad_weight = grad_grad_weight if ctx.need_weight else None
    # Differentiated is <grad_x, grad_grad_x> + <grad_weight, grad_grad_weight>, with grad_x = total W and
    # grad_weight = total^T x.
    grad_total = add(linear(grad_grad_x, weight, ctx.precision), linear(x, grad_grad_weight, ctx.precision))
    if grad_total is None:
        return (None,) * 10
    total, grad_grad_norm, grad_saved_y, grad_saved_norm = grad_y, None, None, None
    if grad_norm is not None:
        # total = grad_y + slope * w y with slope = grad_norm / (norm + eps).
        weights = component_weights(saved_y)
        length = saved_norm + ctx.eps
        slope = grad_norm / length
        weighted = weights * saved_y
        total = add(grad_y, slope.unsqueeze(1) * weighted)
        grad_slope = (weighted * grad_total).sum(1)
        grad_grad_norm = grad_slope / length
        grad_saved_norm = -grad_slope * slope / length
        grad_saved_y = slope.unsqueeze(1) * weights * grad_total
    grad_x = linear(total, None if grad_grad_weight is None else grad_grad_weight.t(), ctx.precision)
    grad_weight = weight_grad(total, grad_grad_x, ctx.precision)
    grad_grad_y = None if grad_y is None else grad_total
    return grad_grad_y, grad_grad_norm, grad_saved_y, grad_saved_norm, grad_x, grad_weight, None, None, None, None


def _weight_grad_backward(ctx, grad_grad_weight):  # type: ignore[no-untyped-def]
    grad_y, x = ctx.saved_tensors
    grad_grad_y = linear(x, grad_grad_weight, ctx.precision) if ctx.needs_input_grad[0] else None
    grad_x = linear(grad_y, grad_grad_weight.t(), ctx.precision) if ctx.needs_input_grad[1] else None
    return grad_grad_y, grad_x, None


def _reference(x, weight, precision):  # type: ignore[no-untyped-def]
    return reference_implementations().rank2_linear(x, weight)


def _reference_norm(x, weight, eps, precision):  # type: ignore[no-untyped-def]
    return reference_implementations().rank2_linear(x, weight, True, eps)


def _reference_weight_grad(grad_y, x, precision=0):  # type: ignore[no-untyped-def]
    return grad_y.flatten(0, 1).t() @ x.flatten(0, 1)


def _reference_backward(grad_y, grad_norm, y, norm, x, weight, eps, need_x, need_weight, precision):  # type: ignore[no-untyped-def]
    total = grad_y
    if grad_norm is not None:
        slope = grad_norm / (norm + eps)
        total = add(grad_y, slope.unsqueeze(1) * component_weights(y) * y)
    grad_x = total @ weight if need_x else x.new_empty(0)
    return grad_x, _reference_weight_grad(total, x) if need_weight else x.new_empty(0)


register_derivatives("rank2_linear", setup_context=_setup_linear, backward=_linear_backward, reference=_reference)
register_derivatives(
    "rank2_linear_norm", setup_context=_setup_linear_norm, backward=_linear_norm_backward, reference=_reference_norm
)
register_derivatives(
    "rank2_linear_backward", setup_context=_setup_backward, backward=_backward_backward, reference=_reference_backward
)
register_derivatives(
    "rank2_weight_grad", setup_context=_setup_linear, backward=_weight_grad_backward, reference=_reference_weight_grad
)
register_vmap("rank2_linear", samples_as_rows(0))
register_vmap("rank2_linear_norm", samples_as_rows(0))
register_vmap("rank2_linear_backward")
register_vmap("rank2_weight_grad")
register_autocast("rank2_linear")
register_autocast("rank2_linear_norm")

# SPDX-License-Identifier: MIT
"""Gated channel mixing of vectors and rank-2 tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from .._backend import reference_implementations, uses_reference
from ._rank2 import add, add_product, matmul_precision, weight_grad
from ._rank2 import linear as linear_map
from ._registration import check_same_device, register_autocast, register_derivatives, register_vmap, samples_as_rows


def rank2_gate(x: Tensor, gate: Tensor, weight: Tensor, residual: Tensor | None = None) -> Tensor:
    """Mix channels, scale by the sigmoid of a gate, add a residual: the gated maps of the decoder of arXiv 2405.09052.

    ``out[n, k, d] = sigmoid(gate[n, d]) sum_c weight[d, c] x[n, k, c] + residual[n, k, d]``

    On CUDA, products in float32 follow ``torch.set_float32_matmul_precision``, as in `rank2_linear`.

    Args:
        x: scalars (K = 1), vectors (K = 3) or symmetric tensors (K = 6). [N, K, C], float32 or float64.
        gate: invariant gates before the sigmoid. [N, D], dtype of `x`.
        weight: the linear map. [D, C], dtype of `x`.
        residual: added to the gated values, or None. [N, K, D], dtype of `x`.

    Returns:
        The gated values. [N, K, D], dtype of `x`.

    Raises:
        RuntimeError: a shape, dtype or device does not fit.

    Example:
        >>> x, gate, weight = torch.tensor([[[3.0], [0.0], [4.0]]]), torch.zeros(1, 1), torch.tensor([[2.0]])
        >>> rank2_gate(x, gate, weight).flatten()
        tensor([3., 0., 4.])
    """
    if uses_reference():
        return reference_implementations().rank2_gate(x, gate, weight, residual)
    # The gradient of the gate needs x @ weight.T: it is kept, to avoid computing it again.
    save_linear = torch.is_grad_enabled() and gate.requires_grad
    out, _ = torch.ops.dtnn_fast.rank2_gate(x, gate, weight, residual, save_linear, matmul_precision())
    return out


@torch.library.register_fake("dtnn_fast::rank2_gate")
def _fake(
    x: Tensor, gate: Tensor, weight: Tensor, residual: Tensor | None, save_linear: bool, precision: int = 0
) -> tuple[Tensor, Tensor]:
    check_same_device("rank2_gate", x=x, gate=gate, weight=weight, residual=residual)
    shape = (*x.shape[:2], weight.shape[0])
    return x.new_empty(shape), x.new_empty(shape if save_linear else (0,))


@torch.library.register_fake("dtnn_fast::rank2_gate_backward")
def _fake_backward(
    grad_out: Tensor,
    x: Tensor,
    gate: Tensor,
    weight: Tensor,
    linear: Tensor | None,
    need_x: bool = True,
    need_gate: bool = True,
    need_weight: bool = True,
    precision: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    check_same_device("rank2_gate_backward", x=x, grad_out=grad_out, gate=gate, weight=weight, linear=linear)
    needed = ((x, need_x), (gate, need_gate), (weight, need_weight))
    grad_x, grad_gate, grad_weight = (x.new_empty(t.shape if need else (0,)) for t, need in needed)
    return grad_x, grad_gate, grad_weight


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    x, gate, weight, _, ctx.save_linear, ctx.precision = inputs
    ctx.save_for_backward(x, gate, weight, output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx, grad_out, grad_linear):  # type: ignore[no-untyped-def]
    x, gate, weight, linear = ctx.saved_tensors
    grad_x, grad_gate, grad_weight = None, None, None
    needed = need_x, need_gate, need_weight = ctx.needs_input_grad[:3]
    if grad_out is not None and any(needed):
        if not need_gate:
            linear = None
        elif not ctx.save_linear:
            linear = linear_map(x, weight, ctx.precision)
        grads = torch.ops.dtnn_fast.rank2_gate_backward(grad_out, x, gate, weight, linear, *needed, ctx.precision)
        grad_x, grad_gate, grad_weight = (grad if need else None for grad, need in zip(grads, needed, strict=True))
    if grad_linear is not None and ctx.save_linear:
        grad_x = add(grad_x, linear_map(grad_linear, weight.t(), ctx.precision) if need_x else None)
        grad_weight = add(grad_weight, weight_grad(grad_linear, x, ctx.precision) if need_weight else None)
    return grad_x, grad_gate, grad_weight, grad_out if ctx.needs_input_grad[3] else None, None, None


def _setup_backward(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    *tensors, ctx.need_x, ctx.need_gate, ctx.need_weight, ctx.precision = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _backward_backward(ctx, grad_grad_x, grad_grad_gate, grad_grad_weight):  # type: ignore[no-untyped-def]
    grad_out, x, gate, weight, linear = ctx.saved_tensors
    grad_grad_x = grad_grad_x if ctx.need_x else None
    grad_grad_gate = grad_grad_gate if ctx.need_gate else None
    grad_grad_weight = grad_grad_weight if ctx.need_weight else None
    scale = torch.sigmoid(gate)
    slope = scale * (1 - scale)
    grad_grad_out, grad_gate, grad_x, grad_weight, grad_linear = None, None, None, None, None
    # Differentiated is <grad_x, grad_grad_x> + <grad_weight, grad_grad_weight> + <grad_gate, grad_grad_gate>. The first
    # two terms depend on total = scale * grad_out: grad_x = total W and grad_weight = total^T x.
    grad_total = add(linear_map(grad_grad_x, weight, ctx.precision), linear_map(x, grad_grad_weight, ctx.precision))
    gate_factor = grad_total  # grad_gate = slope * sum_k grad_out * gate_factor
    if grad_total is not None:
        wide_scale = scale.unsqueeze(1)
        total = wide_scale * grad_out
        grad_grad_out = wide_scale * grad_total
        grad_x = linear_map(total, None if grad_grad_weight is None else grad_grad_weight.t(), ctx.precision)
        grad_weight = weight_grad(total, grad_grad_x, ctx.precision)
    # The third term has grad_gate = slope * sum_k grad_out * linear; the derivative of slope is slope * (1 - 2 scale).
    if grad_grad_gate is not None:
        factor = (slope * grad_grad_gate).unsqueeze(1)
        bend = torch.addcmul(grad_grad_gate, scale, grad_grad_gate, value=-2).unsqueeze(1)
        grad_grad_out = add_product(grad_grad_out, factor, linear)
        gate_factor = add_product(gate_factor, bend, linear)
        grad_linear = factor * grad_out
    if gate_factor is not None:
        grad_gate = slope * (grad_out * gate_factor).sum(1)
    return grad_grad_out, grad_x, grad_gate, grad_weight, grad_linear, None, None, None, None


def _reference(x, gate, weight, residual, save_linear, precision):  # type: ignore[no-untyped-def]
    out = reference_implementations().rank2_gate(x, gate, weight, residual)
    return out, x @ weight.t() if save_linear else x.new_empty(0)


def _reference_backward(grad_out, x, gate, weight, linear, need_x, need_gate, need_weight, precision):  # type: ignore[no-untyped-def]
    scale, empty = torch.sigmoid(gate), x.new_empty(0)
    total = scale.unsqueeze(1) * grad_out
    grad_gate = scale * (1 - scale) * (grad_out * linear).sum(1) if need_gate else empty
    grad_weight = total.flatten(0, 1).t() @ x.flatten(0, 1) if need_weight else empty
    grad_x = total @ weight if need_x else empty
    return grad_x, grad_gate, grad_weight


register_derivatives("rank2_gate", setup_context=_setup_context, backward=_backward, reference=_reference)
register_derivatives(
    "rank2_gate_backward", setup_context=_setup_backward, backward=_backward_backward, reference=_reference_backward
)
register_vmap("rank2_gate", samples_as_rows(0, 1, 3))
register_vmap("rank2_gate_backward")
register_autocast("rank2_gate")

# SPDX-License-Identifier: MIT
"""A linear map and an activation whose second derivatives take few operations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional


def _uses_onednn(x: Tensor) -> bool:
    return x.dtype == torch.float32 and x.device.type == "cpu" and torch.backends.mkldnn.is_available()


_constant_weights = ContextVar("constant_weights", default=False)


@contextmanager
def constant_weights() -> Iterator[None]:
    """Spares gradients with respect to weights in `torch.autograd.grad`, which asks our functions for all of them."""
    token = _constant_weights.set(True)
    try:
        yield
    finally:
        _constant_weights.reset(token)


def _dense(matrix: Tensor) -> Tensor:
    """oneDNN takes a second for a matrix whose rows are apart."""
    return matrix if matrix.is_contiguous() or matrix.mT.is_contiguous() else matrix.contiguous()


class _Linear(Function):
    """``x W^T + b`` by oneDNN, which uses AVX-512 where it is there; torch.mm's MKL does not on AMD's processors."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return torch.ops.mkldnn._linear_pointwise(_dense(x), _dense(weight), bias, "none", [], "")

    @staticmethod
    def backward(ctx, grad_out):
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        if _constant_weights.get():
            needs_weight = needs_bias = False
        return (
            _Linear.apply(grad_out, weight.mT, None) if needs_x else None,
            _Linear.apply(grad_out.mT, x.mT, None) if needs_weight else None,
            grad_out.sum(0) if needs_bias else None,
        )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x W^T + b``. [E, F], [G, F], [G] -> [E, G]."""
    return _Linear.apply(x, weight, bias) if _uses_onednn(x) else functional.linear(x, weight, bias)


class _SiluDerivative(Function):
    """``slopes silu'(x)``, once more differentiable."""

    @staticmethod
    def forward(ctx, slopes, x):
        ctx.save_for_backward(slopes, x)
        return torch.ops.aten.silu_backward(slopes, x)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out):
        slopes, x = ctx.saved_tensors
        # silu''(x) = s (1 - s) (2 + x (1 - 2 s)) with the sigmoid s
        sigmoid = torch.sigmoid(x)
        grad_x = torch.ops.aten.sigmoid_backward(slopes * grad_out, sigmoid)
        grad_x *= sigmoid.mul_(x).mul_(-2).add_(x).add_(2)
        return torch.ops.aten.silu_backward(grad_out, x), grad_x


class _Silu(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return functional.silu(x)

    @staticmethod
    def backward(ctx, grad_out):
        return _SiluDerivative.apply(grad_out, *ctx.saved_tensors)


def silu(x: Tensor) -> Tensor:
    """``x sigmoid(x)``, twice differentiable; torch's own takes twenty operations for a second derivative."""
    return _Silu.apply(x)

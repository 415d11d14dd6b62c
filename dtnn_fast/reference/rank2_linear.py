# SPDX-License-Identifier: MIT
"""Reference implementation of `rank2_linear`: a matrix product and a norm."""

from __future__ import annotations

from typing import Literal, overload

from torch import Tensor

from ..ops._rank2 import component_weights


@overload
def rank2_linear(x: Tensor, weight: Tensor, norm: Literal[False] = False, eps: float = 0.01) -> Tensor: ...
@overload
def rank2_linear(x: Tensor, weight: Tensor, norm: Literal[True], eps: float = 0.01) -> tuple[Tensor, Tensor]: ...


def rank2_linear(x: Tensor, weight: Tensor, norm: bool = False, eps: float = 0.01) -> Tensor | tuple[Tensor, Tensor]:
    """Multiply by the weight, and take the smooth norm on request; see `dtnn_fast.ops.rank2_linear`."""
    y = x @ weight.t()
    return (y, smooth_norm(y, eps)) if norm else y


def smooth_norm(y: Tensor, eps: float) -> Tensor:
    """Compute ``sqrt(sum_k w_k y_k^2 + eps^2) - eps`` over the components of [N, K, D]."""
    return ((component_weights(y) * y * y).sum(1) + eps * eps).sqrt() - eps

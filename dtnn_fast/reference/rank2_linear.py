# SPDX-License-Identifier: MIT
"""Twin of dtnn_fast.ops.rank2_linear."""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor


@overload
def rank2_linear(x: Tensor, weight: Tensor, norm: Literal[False] = False, eps: float = 0.01) -> Tensor: ...
@overload
def rank2_linear(x: Tensor, weight: Tensor, norm: Literal[True], eps: float = 0.01) -> tuple[Tensor, Tensor]: ...


def rank2_linear(x: Tensor, weight: Tensor, norm: bool = False, eps: float = 0.01) -> Tensor | tuple[Tensor, Tensor]:
    """Mix the channels of each component, with the smooth norm on request; see `dtnn_fast.ops.rank2_linear`."""
    y = x @ weight.t()
    return (y, smooth_norm(y, eps)) if norm else y


def smooth_norm(y: Tensor, eps: float) -> Tensor:
    """``sqrt(sum_k w_k y_k^2 + eps^2) - eps`` over the components of [N, K, D]."""
    return ((component_weights(y) * y * y).sum(1) + eps * eps).sqrt() - eps


def component_weights(y: Tensor) -> Tensor:
    """How often each stored component of [N, K, D] stands in the full tensor: yz, xz and xy twice. [K, 1]."""
    return 1 + (torch.arange(y.shape[1], device=y.device) >= 3).to(y.dtype).unsqueeze(1)

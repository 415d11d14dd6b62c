# SPDX-License-Identifier: MIT
"""Gated channel mixing of vectors and rank-2 tensors."""

from __future__ import annotations

from torch import Tensor

from .. import reference


def rank2_gate(x: Tensor, gate: Tensor, weight: Tensor, residual: Tensor | None = None) -> Tensor:
    """Mix channels, scale by the sigmoid of a gate, add a residual: the gated maps of the decoder of arXiv 2405.09052.

    ``out[n, k, d] = sigmoid(gate[n, d]) sum_c weight[d, c] x[n, k, c] + residual[n, k, d]``

    Args:
        x: scalars (K = 1), vectors (K = 3) or symmetric tensors (K = 6). [N, K, C], float32 or float64.
        gate: invariant gates before the sigmoid. [N, D], dtype of `x`.
        weight: the linear map. [D, C], dtype of `x`.
        residual: what is added, or None. [N, K, D], dtype of `x`.

    Returns:
        The gated values. [N, K, D], dtype of `x`.

    Raises:
        RuntimeError: a shape, dtype or device does not fit.

    Example:
        >>> x, gate, weight = torch.tensor([[[3.0], [0.0], [4.0]]]), torch.zeros(1, 1), torch.tensor([[2.0]])
        >>> rank2_gate(x, gate, weight).flatten()
        tensor([3., 0., 4.])
    """
    return reference.rank2_gate(x, gate, weight, residual)

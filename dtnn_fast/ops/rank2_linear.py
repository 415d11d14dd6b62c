# SPDX-License-Identifier: MIT
"""Channel mixing of scalars, vectors and rank-2 tensors."""

from __future__ import annotations

from typing import Literal, overload

from torch import Tensor

from .. import reference


@overload
def rank2_linear(x: Tensor, weight: Tensor, norm: Literal[False] = False, eps: float = 0.01) -> Tensor: ...
@overload
def rank2_linear(x: Tensor, weight: Tensor, norm: Literal[True], eps: float = 0.01) -> tuple[Tensor, Tensor]: ...


def rank2_linear(x: Tensor, weight: Tensor, norm: bool = False, eps: float = 0.01) -> Tensor | tuple[Tensor, Tensor]:
    """Mix the channels of each tensor component: the linear maps L of the decoder of arXiv 2405.09052.

    ``y[n, k, d] = sum_c weight[d, c] x[n, k, c]``, and with ``norm`` also ``sqrt(sum_k w_k y_k^2 + eps^2) - eps``,
    which is 0 at 0 and smooth to every order; w counts the off-diagonals of the 6-component form twice.

    Args:
        x: scalars (K = 1), vectors (3) or symmetric tensors (6: xx yy zz yz xz xy). [N, K, C], float32 or float64.
        weight: the linear map. [D, C], dtype of `x`.
        norm: return the norms of the mixed channels too.
        eps: length over which the norm is smoothed, above 0. unit of `x @ weight.T`.

    Returns:
        y [N, K, D], or (y, norms [N, D]) with `norm`; dtype of `x`.

    Raises:
        RuntimeError: a shape, dtype or device does not fit, or `eps` is not above 0.

    Example:
        >>> x, weight = torch.tensor([[[3.0], [0.0], [4.0]]]), torch.tensor([[2.0]])
        >>> rank2_linear(x, weight).flatten()
        tensor([6., 0., 8.])
    """
    if norm:
        return reference.rank2_linear(x, weight, True, eps)
    return reference.rank2_linear(x, weight)

# SPDX-License-Identifier: MIT
"""The range of a readout: offset and scale, and the positive definite form."""

from __future__ import annotations

import torch
from torch import Tensor

# With an offset at the bound itself, the positive definite form would have no gradient.
_SMALLEST_ABOVE_BOUND = 0.1


def in_range(tensors: Tensor, offset: Tensor, scale: Tensor, bound: float | None) -> Tensor:
    """Bring the tensors of a readout to its range; see `Readout`.

    Args:
        tensors: T. [..., 3, 3].
        offset: broadcastable to the tensors.
        scale: broadcastable to the tensors.
        bound: b of the positive definite form; None for the plain form.
    """
    identity = torch.eye(3, dtype=tensors.dtype, device=tensors.device)
    if bound is None:
        return offset * identity + scale * tensors
    middle = (offset - bound).clamp(min=_SMALLEST_ABOVE_BOUND).sqrt()
    root = middle * identity + (0.5 * scale / middle) * tensors
    return bound * identity + root @ root

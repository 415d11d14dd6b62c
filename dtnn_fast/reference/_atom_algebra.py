# SPDX-License-Identifier: MIT
"""Layer normalisation, and algebra of symmetric tensors in six components, xx yy zz yz xz xy, channels last."""

from __future__ import annotations

import torch
from torch import Tensor


def symmetric_times_vector(tensor: Tensor, vector: Tensor) -> Tensor:
    """Multiply tensors [N, 6, C] and vectors [N, 3, C]. [N, 3, C]."""
    xx, yy, zz, yz, xz, xy = tensor.unbind(1)
    x, y, z = vector.unbind(1)
    return torch.stack([xx * x + xy * y + xz * z, xy * x + yy * y + yz * z, xz * x + yz * y + zz * z], dim=1)


def dyad(vector: Tensor) -> Tensor:
    """Compute v (x) v of vectors [N, 3, C]. [N, 6, C]."""
    x, y, z = vector.unbind(1)
    return torch.stack([x * x, y * y, z * z, y * z, x * z, x * y], dim=1)


def layer_norm(x: Tensor) -> Tensor:
    """Normalise rows to mean 0 and variance 1. [N, C].

    Not torch's function, whose third derivative is wrong: derivatives of a backward need it.
    """
    centred = x - x.mean(-1, keepdim=True)
    return centred * torch.rsqrt((centred * centred).mean(-1, keepdim=True) + 1e-5)

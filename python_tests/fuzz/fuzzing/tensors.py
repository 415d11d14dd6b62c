# SPDX-License-Identifier: MIT
"""Random tensors in every memory layout that a caller may use."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor


def floats(*shape: int, dtype: torch.dtype) -> Tensor:
    """Draw normal numbers, sometimes zeros, large or tiny."""
    return torch.randn(shape, dtype=dtype) * random.choice([1, 1, 1, 1, 0, 30, 1e-3])


def any_layout(tensor: Tensor) -> Tensor:
    """Copy the values to other strides or another offset in memory."""
    layout = random.randrange(6)
    if tensor.dim() == 0 or layout <= 1:
        return tensor
    if layout == 2 and tensor.dim() >= 2:
        return tensor.transpose(0, 1).contiguous().transpose(0, 1)
    if layout == 3:
        return torch.cat([tensor[:1], tensor])[tensor[:1].shape[0] :]
    if layout == 4 and tensor.shape[0] > 0 and bool((tensor == tensor[:1]).all()):
        return tensor[:1].expand(tensor.shape)
    # Every second element of a larger tensor, in every dimension; odd offsets break 16-byte alignment.
    larger = torch.zeros([2 * size + 1 for size in tensor.shape], dtype=tensor.dtype)
    view = larger[tuple(slice(1, 2 * size + 1, 2) for size in tensor.shape)]
    view.copy_(tensor)
    return view


def pick(sizes: Sequence[int]) -> int:
    return random.choice(sizes)


def floating_dtype() -> torch.dtype:
    return random.choice([torch.float32, torch.float64])

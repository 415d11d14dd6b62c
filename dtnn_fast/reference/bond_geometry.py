# SPDX-License-Identifier: MIT
"""Reference implementation of `bond_geometry`."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def bond_geometry(vectors: Tensor, cutoff: float, num_radial: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Evaluate length, direction, smooth cutoff and radial basis; see `dtnn_fast.ops.bond_geometry`."""
    length = torch.linalg.vector_norm(vectors, dim=-1)
    x = (length / cutoff).clamp(max=1.0)
    envelope = 1.0 + x**6 * (-28.0 + x * (48.0 - 21.0 * x))
    order = torch.arange(1, num_radial + 1, dtype=length.dtype, device=length.device)
    scaled = length.unsqueeze(-1) * (order * (math.pi / cutoff))
    radial = math.sqrt(2.0 / cutoff) * torch.sin(scaled) / length.unsqueeze(-1)
    return length, vectors / length.unsqueeze(-1), envelope, radial

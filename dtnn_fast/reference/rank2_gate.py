# SPDX-License-Identifier: MIT
"""Reference implementation of `rank2_gate`: sigmoid and matrix product."""

from __future__ import annotations

import torch
from torch import Tensor


def rank2_gate(x: Tensor, gate: Tensor, weight: Tensor, residual: Tensor | None = None) -> Tensor:
    """Multiply the sigmoid of the gate and the mixed channels; see `dtnn_fast.ops.rank2_gate`."""
    out = torch.sigmoid(gate).unsqueeze(1) * (x @ weight.t())
    return out if residual is None else out + residual

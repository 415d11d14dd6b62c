# SPDX-License-Identifier: MIT
"""Twin of dtnn_fast.ops.rank2_gate."""

from __future__ import annotations

import torch
from torch import Tensor


def rank2_gate(x: Tensor, gate: Tensor, weight: Tensor, residual: Tensor | None = None) -> Tensor:
    """Gated channel mixing with a residual connection; see `dtnn_fast.ops.rank2_gate`."""
    out = torch.sigmoid(gate).unsqueeze(1) * (x @ weight.t())
    return out if residual is None else out + residual

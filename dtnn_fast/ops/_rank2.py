# SPDX-License-Identifier: MIT
"""Shared parts of `rank2_linear` and `rank2_gate`: component weights, matmul precision, terms of second derivatives.

In the terms of second derivatives an absent (None) factor counts as zero.
"""

from __future__ import annotations

import torch
from torch import Tensor


def component_weights(y: Tensor) -> Tensor:
    """Count how often each stored component of [N, K, D] stands in the full tensor: yz, xz and xy twice. [K, 1]."""
    return 1 + (torch.arange(y.shape[1], device=y.device) >= 3).to(y.dtype).unsqueeze(1)


_PRECISIONS = {"highest": 0, "high": 1, "medium": 2}


def matmul_precision() -> int:
    """Return the setting of ``torch.set_float32_matmul_precision``: 0 for float32, 1 for tf32, 2 for bfloat16."""
    return _PRECISIONS[torch.get_float32_matmul_precision()]


# The flag that torch.compiler.assume_constant_result sets; that function would import the compiler, which takes
# seconds. Compiled code keeps the precision that it was compiled with until torch's own guard has it recompiled: the
# guard sees changes between "highest" and the others.
matmul_precision._dynamo_marked_constant = True  # type: ignore[attr-defined]


def linear(x: Tensor | None, weight: Tensor | None, precision: int) -> Tensor | None:
    """Compute ``x @ weight.T`` with the operation, for x [N, K, C] and weight [D, C]."""
    return None if x is None or weight is None else torch.ops.dtnn_fast.rank2_linear(x, weight, precision)


def weight_grad(grad_y: Tensor | None, x: Tensor | None, precision: int) -> Tensor | None:
    """Sum ``grad_y`` [N, K, D] times ``x`` [N, K, C] over atoms and components. [D, C]."""
    return None if grad_y is None or x is None else torch.ops.dtnn_fast.rank2_weight_grad(grad_y, x, precision)


def add(*terms: Tensor | None) -> Tensor | None:
    """Add the terms that are not None."""
    present = [term for term in terms if term is not None]
    return sum(present[1:], present[0]) if present else None


def add_product(term: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
    """Compute ``term + left * right`` in one pass."""
    return left * right if term is None else torch.addcmul(term, left, right)

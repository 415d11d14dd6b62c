# SPDX-License-Identifier: MIT
"""The terms of second derivatives: sums and products in which an absent (None) factor is 0."""

from __future__ import annotations

import torch
from torch import Tensor


def add(*terms: Tensor | None) -> Tensor | None:
    """The sum of the terms that are there."""
    present = [term for term in terms if term is not None]
    return sum(present[1:], present[0]) if present else None


def add_product(term: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
    """``term + left * right`` in one pass."""
    return left * right if term is None else torch.addcmul(term, left, right)


def linear(x: Tensor | None, weight: Tensor | None, precision: int) -> Tensor | None:
    """``x @ weight.T`` by the operation, for x [N, K, C] and weight [D, C]."""
    return None if x is None or weight is None else torch.ops.dtnn_fast.rank2_linear(x, weight, precision)


def weight_grad(grad_y: Tensor | None, x: Tensor | None, precision: int) -> Tensor | None:
    """The sum over atoms and components of ``grad_y`` [N, K, D] times ``x`` [N, K, C], [D, C]."""
    return None if grad_y is None or x is None else torch.ops.dtnn_fast.rank2_weight_grad(grad_y, x, precision)


_BY_NAME = {"highest": 0, "high": 1, "medium": 2}


def matmul_precision() -> int:
    """What ``torch.set_float32_matmul_precision`` asks for: 0 for float32, 1 for tf32, 2 for bfloat16 factors."""
    return _BY_NAME[torch.get_float32_matmul_precision()]


# What torch.compiler.assume_constant_result sets; that function would import the compiler, which takes seconds.
# Compiled code keeps the precision that it was compiled with, until torch's own guard has it compiled anew: the guard
# sees changes between "highest" and the others.
matmul_precision._dynamo_marked_constant = True  # type: ignore[attr-defined]

# SPDX-License-Identifier: MIT
"""The precision of products in float32 on CUDA, as the user has told torch."""

from __future__ import annotations

import torch

_BY_NAME = {"highest": 0, "high": 1, "medium": 2}


def matmul_precision() -> int:
    """What ``torch.set_float32_matmul_precision`` asks for: 0 for float32, 1 for tf32, 2 for bfloat16 factors."""
    return _BY_NAME[torch.get_float32_matmul_precision()]


# What torch.compiler.assume_constant_result sets; that function would import the compiler, which takes seconds.
# Compiled code keeps the precision that it was compiled with, until torch's own guard has it compiled anew: the guard
# sees changes between "highest" and the others.
matmul_precision._dynamo_marked_constant = True  # type: ignore[attr-defined]

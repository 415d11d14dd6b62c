# SPDX-License-Identifier: MIT
"""What the operations do under torch.autocast: they compute in float32."""

from __future__ import annotations

import torch


def register_autocast(name: str) -> None:
    """Cast float16 and bfloat16 arguments of an operation to float32 under ``torch.autocast``; float64 stays.

    The kernels have no 16-bit forms. Outside of autocast such arguments are errors, and so they are everywhere for
    operations on positions, which have no digits left in 16 bits.

    Args:
        name: the operation, without the namespace.
    """
    for device in ("cpu", "cuda"):
        torch.library.register_autocast(f"dtnn_fast::{name}", device, torch.float32)

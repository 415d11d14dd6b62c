# SPDX-License-Identifier: MIT
"""Checks for the fake (meta) implementations, which see what the kernels of one device never do: mixed devices."""

from __future__ import annotations

from torch import Tensor


def check_same_device(op: str, **tensors: Tensor | None) -> None:
    """Reject tensors on different devices with the message of the kernels (csrc/check.h).

    Args:
        op: the operation's name.
        tensors: its tensor arguments by name; the first is the one that the others are compared with.

    Raises:
        RuntimeError: a tensor is on another device than the first.
    """
    first_name, first = next((name, tensor) for name, tensor in tensors.items() if tensor is not None)
    for name, tensor in tensors.items():
        if tensor is not None and tensor.device != first.device:
            raise RuntimeError(
                f"{op}: expected `{name}` on the device of `{first_name}` ({first.device}), got {tensor.device}"
            )

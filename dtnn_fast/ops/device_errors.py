# SPDX-License-Identifier: MIT
"""Index errors that CUDA kernels find: when they are raised, and how to have them at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def check_device_errors(device: torch.device | str | int | None = None) -> None:
    """Wait for a CUDA device, and raise the index error that a kernel of dtnn_fast has found there, if any.

    Kernels do not make the host wait. Where an index is bad they write NaN, and the next call of an operation of
    dtnn_fast on the device raises the error; this function does it without another call, for example after a step of
    training or the replay of a CUDA graph.

    Args:
        device: the CUDA device; the current one when None. Nothing happens without CUDA.

    Raises:
        RuntimeError: an index was bad; the message is that of the operation that read it.

    Example:
        >>> check_device_errors()
    """
    if not torch.cuda.is_available():
        return
    with torch.cuda.device(device):
        torch.cuda.synchronize()
        torch.ops.dtnn_fast.raise_device_error(torch.cuda.current_device())


@contextmanager
def immediate_device_errors() -> Iterator[None]:
    """Make every call on CUDA in the block wait for its kernels, so that it raises its own index errors.

    It is slow, and meant for finding which call was given a bad index. The environment variable
    ``DTNN_FAST_IMMEDIATE_DEVICE_ERRORS=1`` does the same for a whole program. The setting holds for all threads. A call
    that is being captured into a CUDA graph cannot be waited for; its error comes later.

    Example:
        >>> with immediate_device_errors():
        ...     pass
    """
    before = torch.ops.dtnn_fast.set_immediate_device_errors(True)
    try:
        yield
    finally:
        torch.ops.dtnn_fast.set_immediate_device_errors(before)

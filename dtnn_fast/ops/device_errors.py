# SPDX-License-Identifier: MIT
"""Index errors from CUDA kernels: raise the pending one, or make every call raise its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def check_device_errors(device: torch.device | str | int | None = None) -> None:
    """Wait for a CUDA device, and raise the index error that a kernel of dtnn_fast found there, if any.

    Kernels do not make the host wait. For an invalid index they write NaN, and the next operation of dtnn_fast on the
    device raises the error. This function raises it without another operation, for example after a training step or the
    replay of a CUDA graph.

    Args:
        device: the CUDA device; None for the current one. Without CUDA nothing happens.

    Raises:
        RuntimeError: an index was invalid; the message names the operation that read it.

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

    This is slow; use it to find the call with the invalid index. The environment variable
    ``DTNN_FAST_IMMEDIATE_DEVICE_ERRORS=1`` does the same for a whole program. The setting applies to all threads. A
    call that is captured into a CUDA graph cannot wait; its error comes later.

    Example:
        >>> with immediate_device_errors():
        ...     pass
    """
    before = torch.ops.dtnn_fast.set_immediate_device_errors(True)
    try:
        yield
    finally:
        torch.ops.dtnn_fast.set_immediate_device_errors(before)

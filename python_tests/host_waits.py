# SPDX-License-Identifier: MIT
"""A mode in which operations that make the host wait for a GPU are errors, on any device."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
# They need a value of the device, or give a result whose size depends on values.
_WAITING = {
    *(aten._local_scalar_dense, aten.item, aten.is_nonzero, aten.equal, aten.allclose),
    *(aten.nonzero, aten.nonzero_numpy, aten.argwhere, aten.masked_select, aten.bincount),
    *(aten._unique2, aten.unique_dim, aten.unique_consecutive),
}
_INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}


class WaitError(Exception):
    """An operation made the host wait."""


def _refusing_in_this_thread(method: Callable[..., Any]) -> Callable[..., Any]:
    """Replace a method, except in other threads, such as one that makes batches."""
    thread = threading.get_ident()

    def refuse(*arguments: Any, **more: Any) -> Any:
        if threading.get_ident() == thread:
            raise WaitError("values of a tensor were read")
        return method(*arguments, **more)

    return refuse


class NoHostWaits(TorchDispatchMode):
    """Raise `WaitError` for operations that would wait for a GPU if their tensors were there.

    Within the mode copies to the CPU are errors too: all tensors count as tensors of a device.
    """

    def __enter__(self) -> NoHostWaits:
        # On the CPU these are no operations.
        self._reading = [(name, getattr(Tensor, name)) for name in ("tolist", "numpy", "cpu")]
        for name, method in self._reading:
            setattr(Tensor, name, _refusing_in_this_thread(method))
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for name, method in self._reading:
            setattr(Tensor, name, method)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = func.overloadpacket
        indices = args[1] if packet in _INDEXING else ()
        by_mask = any(isinstance(x, Tensor) and x.dtype in (torch.bool, torch.uint8) for x in indices)
        # The backward of a change of dtype names the device and the layout that the tensor has.
        named = kwargs.get("device") is not None and kwargs.get("layout") is None
        to_host = packet is aten._to_cpu or (packet is aten._to_copy and named)
        unknown_size = packet is aten.repeat_interleave and kwargs.get("output_size") is None
        if packet in _WAITING or by_mask or to_host or unknown_size:
            raise WaitError(str(func))
        return func(*args, **kwargs)


def guard_steps(run, monkeypatch):
    """Run each step of a trainer in the mode, and return the list of steps done."""
    steps = []
    step = run._step

    def guarded(*arguments):
        with NoHostWaits():
            result = step(*arguments)
        steps.append(result)
        return result

    monkeypatch.setattr(run, "_step", guarded)
    return steps

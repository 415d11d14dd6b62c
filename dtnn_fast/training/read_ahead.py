# SPDX-License-Identifier: MIT
"""A thread that makes batches ahead of the training, and their way to the device."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

T = TypeVar("T")
_QUEUE_SIZE = 4


def read_ahead(items: Callable[[], Iterator[T]]) -> Generator[T, None, None]:
    """Make items in a thread, up to four ahead of the consumer.

    Args:
        items: starts the iteration; an error in it is raised to the consumer in place of the item.
    """
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(_QUEUE_SIZE)
    stop = threading.Event()

    def put(item: T | None, error: BaseException | None) -> None:
        while not stop.is_set():
            try:
                return ready.put((item, error), timeout=0.1)
            except queue.Full:
                continue

    def make_items() -> None:
        try:
            for item in items():
                put(item, None)
                if stop.is_set():
                    return
            put(None, None)
        except BaseException as error:  # raised in the consumer's thread
            put(None, error)

    thread = threading.Thread(target=make_items, daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        stop.set()
        thread.join()


def batches_on(device: torch.device, items: Callable[[], Iterator[T]]) -> Generator[T, None, None]:
    """Make batches in a thread, up to four ahead, and give them on a device.

    For a GPU the thread puts them into pinned memory, and the copy does not wait for the GPU's earlier work.

    Args:
        device: where the batches are needed.
        items: starts the iteration; see `read_ahead`. Its batches are made of tensors on the CPU, dataclasses, tuples,
            lists and mappings.
    """
    if device.type == "cpu":
        yield from read_ahead(items)
        return

    def pinned() -> Iterator[T]:
        for item in items():
            yield map_tensors(item, lambda x: x.pin_memory())

    for item in read_ahead(pinned):
        yield map_tensors(item, lambda x: x.to(device, non_blocking=True))


def map_tensors(value: T, change: Callable[[Tensor], Tensor]) -> T:
    """Replace all tensors in nested dataclasses, tuples, lists and mappings; everything else stays."""
    changed: Any = value
    if isinstance(value, Tensor):
        changed = change(value)
    elif is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: map_tensors(getattr(value, field.name), change) for field in fields(value)}
        changed = replace(value, **parts)
    elif isinstance(value, Mapping):
        changed = {name: map_tensors(part, change) for name, part in value.items()}
    elif isinstance(value, tuple | list):
        parts_in_order = [map_tensors(part, change) for part in value]
        named = hasattr(value, "_fields")
        changed = type(value)(*parts_in_order) if named else type(value)(parts_in_order)
    return cast(T, changed)

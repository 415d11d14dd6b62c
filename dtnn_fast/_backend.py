# SPDX-License-Identifier: MIT
"""The switch between the native kernels and the readable reference implementations of the operations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

BACKENDS = ("native", "reference")
# A plain module variable: torch.compile guards on it, which it cannot do for a context variable.
_current = "native"


def uses_reference() -> bool:
    """Return whether operations run on the reference implementations."""
    return _current == "reference"


def reference_implementations() -> ModuleType:
    """Return `dtnn_fast.reference`, imported when first used: it is built on `dtnn_fast.ops`, which calls this."""
    # A statement, since torch.compile cannot trace importlib.
    from . import reference

    return reference


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Choose the implementation that operations in the block run on, for comparison.

    Args:
        name: ``"native"`` for the C++/CUDA kernels, ``"reference"`` for the plain PyTorch implementations.

    Raises:
        ValueError: `name` is neither of these.
    """
    global _current  # noqa: PLW0603  one switch for the whole process is intended
    if name not in BACKENDS:
        raise ValueError(f"use_backend: expected one of {', '.join(BACKENDS)}, got {name!r}")
    before, _current = _current, name
    try:
        yield
    finally:
        _current = before

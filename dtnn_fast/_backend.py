# SPDX-License-Identifier: MIT
"""Which implementation the operations use: the native kernels, or their readable twins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

BACKENDS = ("native", "reference")
# A plain module variable: torch.compile guards on it, which it cannot do for a context variable.
_current = "native"


def uses_reference() -> bool:
    """Whether operations go to the twins in `dtnn_fast.reference`."""
    return _current == "reference"


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Run the operations in the block on another implementation, for comparison.

    Args:
        name: ``"native"``, the C++/CUDA kernels, or ``"reference"``, their plain PyTorch twins.

    Raises:
        ValueError: another name.
    """
    global _current  # noqa: PLW0603  one switch for the process is what is meant
    if name not in BACKENDS:
        raise ValueError(f"use_backend: expected one of {', '.join(BACKENDS)}, got {name!r}")
    before, _current = _current, name
    try:
        yield
    finally:
        _current = before

# SPDX-License-Identifier: MIT
"""How far the file that is being read has been read, for the progress of files that take long."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path


class _Reading(threading.local):
    path: Path | None = None
    tell: Callable[[], float] = staticmethod(lambda: 0)


_reading = _Reading()


def track(path: Path, tell: Callable[[], float]) -> None:
    """Announce the file that this thread reads from now on.

    Args:
        path: the file.
        tell: returns how many of its bytes have been read; it may raise ValueError where the file is closed.
    """
    _reading.path, _reading.tell = path, tell


def bytes_read(path: Path) -> int:
    """Return about how many bytes of a file this thread has read; 0 where another file was announced since.

    Args:
        path: as announced.
    """
    if _reading.path != path:
        return 0
    try:
        return int(_reading.tell())
    except ValueError:
        return 0

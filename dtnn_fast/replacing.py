# SPDX-License-Identifier: MIT
"""Write a file whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to, which takes the place of `path` when the block ends without an error.

    Whatever ends the block early, Ctrl-C included, leaves an earlier file at `path` as it was, and removes the
    unfinished one.

    Args:
        path: the file to write.

    Example:
        >>> with replacing(Path("table.csv")) as unfinished:
        ...     unfinished.write_text("id,mean")
    """
    unfinished = path.with_name(path.name + ".part")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)

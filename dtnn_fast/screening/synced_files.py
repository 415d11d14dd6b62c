# SPDX-License-Identifier: MIT
"""Files that are written completely or not at all, also when the machine loses power or the disk is full."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import BadFileError, optional_import

# End of the names of files that are being written; a killed process leaves them behind.
UNFINISHED = ".unfinished"


def write_synced(path: Path, table: Any) -> None:
    """Write a table of Arrow completely or not at all, also when the machine loses power.

    Args:
        path: the file.
        table: a `pyarrow.Table`.

    Raises:
        BadFileError: it cannot be written.
    """
    parquet = optional_import("pyarrow.parquet", extra="cli", purpose="write Parquet files")

    def write(unfinished: Path) -> None:
        parquet.write_table(table, unfinished, compression="zstd")

    replace_synced(path, write)


def write_text_synced(path: Path, text: str) -> None:
    """Write a text completely or not at all; see `write_synced`."""
    replace_synced(path, lambda unfinished: unfinished.write_text(text, encoding="utf-8"))


def replace_synced(path: Path, write: Callable[[Path], Any]) -> None:
    """Let a function write a file, sync it, and rename it into its place.

    Args:
        path: the file.
        write: called with the temporary path.

    Raises:
        BadFileError: it cannot be written; what was there before stays.
    """
    # Several processes may write the same manifest.
    unfinished = path.with_name(f"{path.name}.{os.getpid()}{UNFINISHED}")
    try:
        try:
            write(unfinished)
            with unfinished.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(unfinished, path)
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            hint = ""
            # EDQUOT is a quota, EFBIG the limit of a file's size (ulimit -f).
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or "No space left" in str(error):
                hint = ". What has been written is kept: free space and run the same command again"
            raise BadFileError(f"{path}: cannot be written: {error.strerror or error}{hint}") from error
    finally:
        unfinished.unlink(missing_ok=True)

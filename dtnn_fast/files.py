# SPDX-License-Identifier: MIT
"""JSON files that hold one object."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import BadFileError, FetchError


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Raises:
        BadFileError: the file is missing, cannot be read, is no JSON, or holds something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadFileError(f"{path}: missing") from error
    except (OSError, ValueError, RecursionError) as error:
        raise BadFileError(f"{path}: cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise BadFileError(f"{path}: expected a JSON object, got {type(values).__name__}")
    return values


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


_CHUNK = 1 << 18
_TIMEOUT_SECONDS = 60.0

# Called with what is counted ("bytes", "tensors", "rows"), how many there are so far, and of how many, 0 where unknown.
OnProgress = Callable[[str, int, int], None]


def download(url: str, path: Path, sha256: str | None = None, on_progress: OnProgress | None = None) -> Path:
    """Download a file, unless it is there already.

    Args:
        url: where from.
        path: where to; the folder must exist.
        sha256: the checksum in hexadecimal that the file must have, or None where it is not known.
        on_progress: see `OnProgress`; it counts bytes.

    Returns:
        `path`

    Raises:
        FetchError: the server cannot be reached or answers with an error, the download breaks off, or the checksum is
            another one. Nothing is left at `path` then.
    """
    if not path.exists():
        with replacing(path) as unfinished:
            try:
                _stream(url, unfinished, on_progress)
            except (OSError, http.client.HTTPException, ValueError) as error:  # URLError is an OSError
                # A URLError shows its cause in brackets; an HTTPError, which is one too, says more than its reason.
                cause = error.reason if type(error) is urllib.error.URLError else error
                raise FetchError(f"{url}: the download failed: {cause or type(error).__name__}") from error
            _check(unfinished, url, sha256)
    else:
        _check(path, str(path), sha256)
    return path


def sha256_of(path: Path) -> str:
    """Give the checksum of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stream(url: str, path: Path, on_progress: OnProgress | None) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "dtnn-fast"})
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer, path.open("wb") as file:
        whole = int(answer.headers.get("Content-Length") or 0)
        done = 0
        while chunk := answer.read(_CHUNK):
            file.write(chunk)
            done += len(chunk)
            if on_progress is not None:
                on_progress("bytes", done, whole)
    # Read in pieces, a connection that closes early looks like the end of the file.
    if done < whole:
        raise OSError(f"it broke off after {done:,} of {whole:,} bytes")


def _check(path: Path, name: str, sha256: str | None) -> None:
    if sha256 is not None and (found := sha256_of(path)) != sha256:
        raise FetchError(f"{name}: not the expected file: its SHA-256 is {found}, expected {sha256}")

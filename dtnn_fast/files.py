# SPDX-License-Identifier: MIT
"""Files: JSON objects, writing a file completely or not at all, and downloads with a checksum."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import BadFileError, FetchError

# Nested values that the parser of Python's library takes without harm to the stack: its own limit of recursion.
_MAX_NESTING = 1000
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[\]{}]')


def parse_json(text: str | bytes, object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """Parse JSON; NaN and Infinity are numbers, as Python writes them.

    Args:
        text: the text, UTF-8 where it is bytes.
        object_pairs_hook: as in `json.loads`.

    Raises:
        ValueError: it is not valid JSON, or the hook refuses an object.
        RecursionError: it is nested too deeply.
    """
    check_nesting(text)
    return json.loads(text, object_pairs_hook=object_pairs_hook)


def check_nesting(text: str | bytes) -> None:
    """Refuse JSON that is nested so deeply that its parser might overflow the stack, which would end the process.

    Args:
        text: the text, UTF-8 where it is bytes.

    Raises:
        RecursionError: it is nested too deeply.
    """
    # Libraries raise Python's limit of recursion (symfc, which phonopy imports, to 100,000); below it, Python checks.
    if sys.getrecursionlimit() > 10 * _MAX_NESTING:
        text = text if isinstance(text, str) else text.decode("utf-8")
        depth = 0
        for match in _STRING_OR_BRACKET.finditer(text):
            symbol = match[0]
            depth += (symbol in "[{") - (symbol in "]}")
            if depth > _MAX_NESTING:
                raise RecursionError(f"more than {_MAX_NESTING} values inside of each other")


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Raises:
        BadFileError: the file is missing, cannot be read, is not JSON, or holds another value than an object.
    """
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadFileError(f"{path}: missing") from error
    except (OSError, ValueError, RecursionError) as error:
        raise BadFileError(f"{path}: cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise BadFileError(f"{path}: expected a JSON object, got {type(values).__name__}")
    return values


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path to write to, which replaces `path` when the block ends without an error.

    When an error or Ctrl-C ends the block, an existing file at `path` stays unchanged and the temporary file is
    removed.

    Args:
        path: the file to write.

    Example:
        >>> with replacing(Path("table.csv")) as unfinished:
        ...     unfinished.write_text("id,mean")
    """
    path = Path(path)
    unfinished = path.with_name(path.name + ".part")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


# Called with what is counted ("bytes", "tensors", "rows"), the count so far, and the final count, 0 where unknown.
OnProgress = Callable[[str, int, int], None]


def download(url: str, path: Path, sha256: str | None = None, on_progress: OnProgress | None = None) -> Path:
    """Download a file, unless it exists already.

    Args:
        url: the address.
        path: the file to write; its folder must exist.
        sha256: the expected checksum in hexadecimal, or None where it is unknown.
        on_progress: see `OnProgress`; it counts bytes.

    Returns:
        `path`

    Raises:
        FetchError: the server cannot be reached or answers with an error, the download breaks off, or the checksum is
            wrong. No new file is left at `path` then.
    """
    if not path.exists():
        with replacing(path) as unfinished:
            try:
                _stream(url, unfinished, on_progress)
            except (OSError, http.client.HTTPException, ValueError) as error:  # URLError is an OSError
                # A URLError shows its reason in brackets. Its subclass HTTPError says more than its reason.
                cause = error.reason if type(error) is urllib.error.URLError else error
                raise FetchError(f"{url}: the download failed: {cause or type(error).__name__}") from error
            _check_sha256(unfinished, url, sha256)
    else:
        _check_sha256(path, str(path), sha256)
    return path


def sha256_of(path: Path) -> str:
    """Compute the SHA-256 checksum of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_CHUNK_BYTES = 1 << 18
_TIMEOUT_SECONDS = 60.0


def _stream(url: str, path: Path, on_progress: OnProgress | None) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "dtnn-fast"})
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer, path.open("wb") as file:
        num_bytes = int(answer.headers.get("Content-Length") or 0)
        done = 0
        while chunk := answer.read(_CHUNK_BYTES):
            file.write(chunk)
            done += len(chunk)
            if on_progress is not None:
                on_progress("bytes", done, num_bytes)
    # When the connection closes early, reading in chunks just ends, without an error.
    if done < num_bytes:
        raise OSError(f"it broke off after {done:,} of {num_bytes:,} bytes")


def _check_sha256(path: Path, name: str, expected: str | None) -> None:
    if expected is not None and (actual := sha256_of(path)) != expected:
        raise FetchError(f"{name}: not the expected file: its SHA-256 is {actual}, expected {expected}")

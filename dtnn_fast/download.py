# SPDX-License-Identifier: MIT
"""Download a file whole or not at all."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from .errors import FetchError
from .replacing import replacing

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

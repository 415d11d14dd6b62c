# SPDX-License-Identifier: MIT
"""Compressed files: decompression by chunks, and limits against decompression bombs."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import stat
import weakref
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from ..errors import BadFileError
from .read_position import track

# Structure files shrink to a fifth by gzip and to a twentieth by xz; the most repetitive JSON to a hundredth. A bomb of
# zeros shrinks to a thousandth and less.
MAX_RATIO = 300
# Below this size the ratio is not judged: a small file is harmless, and may well repeat itself.
RATIO_FREE_BYTES = 16 << 20
# A file that its format reads whole.
MAX_TEXT_BYTES = 1 << 30
CHUNK_BYTES = 1 << 18


class Compression(NamedTuple):
    """A compression of whole files.

    Args:
        name: the program, for messages.
        magic: first bytes of such a file.
        open: opens compressed bytes for reading.
    """

    name: str
    magic: bytes
    open: Callable[[IO[bytes]], Any]


COMPRESSIONS = {
    ".gz": Compression("gzip", b"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file)),
    ".bz2": Compression("bzip2", b"BZh", bz2.BZ2File),
    ".xz": Compression("xz", b"\xfd7zXZ\x00", lzma.LZMAFile),
}
COMPRESSED_ENDING = re.compile(r"\.(?:gz|bz2|xz)$", re.IGNORECASE)


def uncompressed_name(name: str) -> str:
    """Return a file's name without the ending of its compression: ``a.cif`` for ``a.cif.gz``."""
    return COMPRESSED_ENDING.sub("", name)


def open_file(path: Path) -> IO[bytes]:
    """Open a file for reading bytes.

    Raises:
        BadFileError: it is missing, a folder, a pipe or a device, or cannot be read.
    """
    try:
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # reading a pipe or a device might never end
            raise BadFileError(f"{path}: is a pipe or a device, not a file")
        file = path.open("rb")
    except FileNotFoundError:
        raise BadFileError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise BadFileError(f"{path}: is a folder, not a file") from None
    except OSError as error:
        raise BadFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    opened = weakref.ref(file)
    track(path, lambda: 0 if (still := opened()) is None else still.tell())
    return file


def byte_chunks(path: Path, file: IO[bytes]) -> Iterator[bytes]:
    """Yield the bytes of a file in chunks, decompressed as its name says: .gz, .bz2 or .xz.

    Args:
        path: its name, for the compression and for messages.
        file: its bytes as they are stored.

    Raises:
        BadFileError: the compression does not fit the name, the data is truncated or damaged, or it expands to more
            than `MAX_RATIO` times its size (judged from `RATIO_FREE_BYTES` on).
    """
    counted = _CountedFile(path, file)
    first = counted.read(CHUNK_BYTES)
    ending = path.suffix.lower()
    compression = COMPRESSIONS.get(ending)
    if compression is None:
        for other, known in COMPRESSIONS.items():
            if first.startswith(known.magic):
                raise BadFileError(f"{path}: is compressed by {known.name}, so its name must end in {other}")
        while first:
            yield first
            first = counted.read(CHUNK_BYTES)
        return
    if first and not first.startswith(compression.magic):
        raise BadFileError(f"{path}: named {ending} but not compressed by {compression.name}")
    if first:
        yield from _decompressed(path, compression, cast(IO[bytes], _Rewound(first, counted)), counted)


def _decompressed(path: Path, compression: Compression, file: IO[bytes], counted: _CountedFile) -> Iterator[bytes]:
    stream = compression.open(file)
    total = 0
    while True:
        try:
            chunk = stream.read(CHUNK_BYTES)
        except EOFError:
            raise BadFileError(f"{path}: the file is truncated: its {compression.name} data ends too early") from None
        except BadFileError:
            raise
        except (OSError, zlib.error, lzma.LZMAError, ValueError) as error:
            raise BadFileError(f"{path}: its {compression.name} data is damaged: {error}") from error
        if not chunk:
            return
        total += len(chunk)
        check_expansion(path, total, counted.num_bytes)
        yield chunk


def check_expansion(path: Path, num_bytes: int, num_compressed: int) -> None:
    """Refuse data that expands too much, as a decompression bomb does.

    Args:
        path: for the message.
        num_bytes: size after decompression, so far.
        num_compressed: size before, so far.

    Raises:
        BadFileError: the sizes differ by more than `MAX_RATIO`.
    """
    if num_bytes > RATIO_FREE_BYTES and num_bytes > MAX_RATIO * max(1, num_compressed):
        raise BadFileError(
            f"{path}: looks like a decompression bomb: {num_compressed:,} bytes expand to more than {num_bytes:,}, "
            f"over {MAX_RATIO} times as many"
        )


class _CountedFile:
    """A file that counts the bytes that were read, and reports errors of the disk as unreadable files."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.num_bytes = 0
        self._path = path
        self._file = file

    def read(self, size: int) -> bytes:
        try:
            data = self._file.read(size)
        except IsADirectoryError:
            raise BadFileError(f"{self._path}: is a folder, not a file") from None
        except OSError as error:
            raise BadFileError(f"{self._path}: cannot be read: {error.strerror or error}") from error
        self.num_bytes += len(data)
        return data


class _Rewound(io.RawIOBase):
    """A stream whose first bytes were read already."""

    def __init__(self, first: bytes, rest: _CountedFile) -> None:
        super().__init__()
        self._first = first
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data, self._first = self._first[: len(buffer)], self._first[len(buffer) :]
        data = data or self._rest.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

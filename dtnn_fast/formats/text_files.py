# SPDX-License-Identifier: MIT
"""Text of crystal files: decompression, encodings, lines and numbers."""

from __future__ import annotations

import codecs
import gzip
import re
import stat
import zlib
from pathlib import Path

from ..errors import BadFileError

_GZIP_MAGIC = b"\x1f\x8b"
_OTHER_MAGIC = {
    b"PK\x03\x04": "a zip archive: unpack it first",
    b"BZh": "compressed by bzip2: unpack it first",
    b"\xfd7zXZ": "compressed by xz: unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: unpack it first",
    b"\x89HDF": "an HDF5 file",
    b"\x89PNG": "a PNG picture",
    b"%PDF": "a PDF document",
    b"PAR1": "a Parquet file",
}
# The mark of UTF-32 begins with the one of UTF-16.
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_text(path: Path) -> str:
    """Read a text file, which is compressed by gzip if its name ends in .gz.

    Args:
        path: the file. A byte order mark tells UTF-8, UTF-16 and UTF-32; without it, it is UTF-8, else Latin-1.

    Returns:
        The text, without a byte order mark.

    Raises:
        BadFileError: the file is missing, a folder, a pipe or device, empty, truncated, not text, or its compression
            does not fit its name.
    """
    data = _read_bytes(path)
    if not data:
        raise BadFileError(f"{path}: the file is empty")
    compressed = data.startswith(_GZIP_MAGIC)
    if compressed and path.suffix.lower() != ".gz":
        raise BadFileError(f"{path}: is compressed by gzip, so its name must end in .gz")
    if path.suffix.lower() == ".gz":
        if not compressed:
            raise BadFileError(f"{path}: named .gz but not compressed by gzip")
        data = _decompress(path, data)
    for magic, meaning in _OTHER_MAGIC.items():
        if data.startswith(magic):
            raise BadFileError(f"{path}: not a structure file but {meaning}")
    text = _decode(path, data)
    if "\0" in text:
        raise BadFileError(f"{path}: not a text file")
    if not text.strip():
        raise BadFileError(f"{path}: the file is empty (only blanks)")
    return text


def split_lines(text: str, maxsplit: int = 0) -> list[str]:
    r"""Split a text into lines, which end in ``\n``, ``\r\n`` or ``\r`` only.

    `str.splitlines` also splits at form feeds and at separators of Unicode, which may stand in comments.

    Args:
        text: the text.
        maxsplit: maximum number of splits; 0 for all.
    """
    lines = re.split(r"\r\n|\n|\r", text, maxsplit=maxsplit)
    if not lines[-1]:
        del lines[-1]
    return lines


# Fortran writes 1.0d0 too; NaN and infinity are left to the check of the crystal, which names the atom.
# No part can match in two ways, so that long lines take no more than linear time.
NUMBER_PATTERN = r"[-+]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eEdD][-+]?[0-9]+)?|(?i:nan|inf(?:inity)?))"
_NUMBER = re.compile(NUMBER_PATTERN)


def parse_number(word: str) -> float | None:
    """Parse a number as Fortran or C writes it.

    Args:
        word: for example ``1``, ``-.5``, ``1.0d-3`` or ``nan``.

    Returns:
        The number, or None where the word is none.
    """
    return float(word.lower().replace("d", "e")) if _NUMBER.fullmatch(word) else None


def _read_bytes(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # reading a pipe or a device might never end
            raise BadFileError(f"{path}: is a pipe or a device, not a file")
        return path.read_bytes()
    except FileNotFoundError:
        raise BadFileError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise BadFileError(f"{path}: is a folder, not a file") from None
    except OSError as error:
        raise BadFileError(f"{path}: cannot be read: {error.strerror or error}") from error


def _decompress(path: Path, data: bytes) -> bytes:
    try:
        return gzip.decompress(data)
    except EOFError:
        raise BadFileError(f"{path}: the file is truncated: its gzip data ends too early") from None
    except (OSError, zlib.error) as error:
        raise BadFileError(f"{path}: its gzip data is damaged: {error}") from error


def _decode(path: Path, data: bytes) -> str:
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            try:
                return data.decode(encoding)
            except UnicodeDecodeError as error:
                raise BadFileError(f"{path}: begins like {encoding.upper()}, but it is damaged: {error}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Older CIF files have accented names of authors in Latin-1, which decodes any bytes.
        return data.decode("latin-1")

# SPDX-License-Identifier: MIT
"""The text of a file, and what kind of file it looks like."""

from __future__ import annotations

import gzip
import json
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
_FLOAT = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][-+]?\d+)?"
_THREE_FLOATS = re.compile(rf"\s*{_FLOAT}\s+{_FLOAT}\s+{_FLOAT}(?:\s|$)")
_POSCAR_SCALE = re.compile(rf"\s*{_FLOAT}(?:\s+{_FLOAT}\s+{_FLOAT})?\s*(?:[!#].*)?$")
_CIF = re.compile(r"^\s*(?:data_\S|_cell_length_a\b)", re.MULTILINE | re.IGNORECASE)


def read_text(path: Path) -> str:
    """Read a text file, gzip-compressed if its name ends in .gz.

    Raises:
        BadFileError: the file is missing, a folder, a pipe or device, empty, truncated, not text or not compressed as
            its name says.
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
    if b"\0" in data:
        raise BadFileError(f"{path}: not a text file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Older CIF files have accented names of authors in Latin-1, which decodes anything.
        text = data.decode("latin-1")
    if not text.strip():
        raise BadFileError(f"{path}: the file is empty (only blanks)")
    return text


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


def looks_like(text: str) -> str | None:
    """Name the kind of file that a text looks like: a key of `readers.KINDS`, or None when in doubt."""
    lines = text.lstrip().split("\n", 12)
    if lines[0].startswith(("{", "[")):
        if len(lines) > 1 and lines[0].startswith("{") and _is_json(lines[0]):
            return "jsonl"
        return "json"
    if lines[0].strip().isdigit() and len(lines) > 2 and ("Lattice=" in lines[1] or re.match(r"[A-Z]", lines[2])):
        return "extxyz"
    # A POSCAR may have an empty first line, which counts.
    raw = text.split("\n", 6)
    if len(raw) > 4 and _POSCAR_SCALE.match(raw[1]) and all(_THREE_FLOATS.match(line) for line in raw[2:5]):
        return "poscar"
    if _CIF.search(text):
        return "cif"
    return None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True

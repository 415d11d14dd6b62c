# SPDX-License-Identifier: MIT
"""Read the crystals of one file: choose the format by the file's name, check its content, and call the reader.

To add a format, write its reader in a new file of this folder and add a line to `FILE_FORMATS`.
"""

from __future__ import annotations

import gzip
import json
import re
import stat
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..crystals.crystal import Crystal, Rejected
from ..errors import BadFileError
from .cif import read_cif
from .extxyz import read_extxyz
from .json_lines import read_jsonl
from .packed_set import read_npz
from .poscar import read_poscar
from .pymatgen_json import read_pymatgen_json


class FileFormat(NamedTuple):
    """A file format of crystals.

    Args:
        name: for messages.
        suffixes: endings of file names, in lower case.
        read: the reader. It takes the path and the text of the file; the text is empty for a binary format.
        is_text: whether files are text; these may also be compressed by gzip and end in .gz.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[Path, str], Iterator[Crystal | Rejected]]
    is_text: bool = True


FILE_FORMATS = {
    "jsonl": FileFormat("JSON lines", (".jsonl",), read_jsonl),
    "cif": FileFormat("CIF", (".cif", ".mcif"), read_cif),
    "poscar": FileFormat("POSCAR", (".vasp", ".poscar"), read_poscar),
    "extxyz": FileFormat("extended XYZ", (".extxyz", ".xyz"), read_extxyz),
    "json": FileFormat("pymatgen JSON", (".json",), read_pymatgen_json),
    "npz": FileFormat("packed set", (".npz",), read_npz, is_text=False),
}
# POSCAR, CONTCAR, and common variants: POSCAR_relaxed, POSCAR-2, POSCAR.mp-149
_POSCAR_NAME = re.compile(r"(?:poscar|contcar)(?:[-_.].*)?")


def file_format_of(path: Path) -> str | None:
    """Return the format of a file by its name: a key of `FILE_FORMATS`, or None where it is unknown."""
    name = path.name.lower().removesuffix(".gz")
    for key, file_format in FILE_FORMATS.items():
        if name.endswith(file_format.suffixes):
            return key
    return "poscar" if _POSCAR_NAME.fullmatch(name) else None


def require_file_format(path: Path) -> str:
    """Return the format of a file by its name, a key of `FILE_FORMATS`.

    Raises:
        BadFileError: the format is unknown; the message lists the known ones.
    """
    key = file_format_of(path)
    if key is None:
        known = ", ".join(suffix for known in FILE_FORMATS.values() if known.is_text for suffix in known.suffixes)
        raise BadFileError(
            f"{path}: unknown file format: expected {known}, POSCAR or CONTCAR, each also with .gz, or .npz"
        )
    return key


def read_crystals(path: Path | str) -> list[Crystal | Rejected]:
    """Read all crystals of a file; their physics is not checked (see `check_crystal`).

    Args:
        path: a file whose name tells its format: .jsonl, .cif, .vasp, .poscar, POSCAR, CONTCAR, .extxyz, .xyz or .json,
            each also with .gz, or .npz.

    Returns:
        In the order of the file, a Crystal, or a Rejected with the reason where a crystal cannot be read.

    Raises:
        BadFileError: the file as a whole cannot be read: missing, empty, truncated, or of another format.
        MissingPackageError: the format needs an optional package.
    """
    path = Path(path)
    if path.is_dir():
        raise BadFileError(f"{path}: is a folder: list its files with expand_paths")
    named = require_file_format(path)
    if not FILE_FORMATS[named].is_text:
        return list(FILE_FORMATS[named].read(path, ""))
    text = read_text(path)
    guessed = _guess_file_format(text)
    # JSON and JSON lines are left to their readers, which parse the whole text.
    if guessed is not None and guessed != named and {guessed, named} != {"json", "jsonl"}:
        raise BadFileError(
            f"{path}: named as {FILE_FORMATS[named].name}, but it looks like {FILE_FORMATS[guessed].name}"
        )
    # Infinite coordinates pass through here silently; the check of the crystal names them.
    with np.errstate(all="ignore"):
        return list(FILE_FORMATS[named].read(path, text))


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


def read_text(path: Path) -> str:
    """Read a text file, which is compressed by gzip if its name ends in .gz.

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
    if b"\0" in data:
        raise BadFileError(f"{path}: not a text file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Older CIF files have accented names of authors in Latin-1, which decodes any bytes.
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


_FLOAT = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][-+]?\d+)?"
_THREE_FLOATS = re.compile(rf"\s*{_FLOAT}\s+{_FLOAT}\s+{_FLOAT}(?:\s|$)")
_POSCAR_SCALE = re.compile(rf"\s*{_FLOAT}(?:\s+{_FLOAT}\s+{_FLOAT})?\s*(?:[!#].*)?$")
_CIF = re.compile(r"^\s*(?:data_\S|_cell_length_a\b)", re.MULTILINE | re.IGNORECASE)


def _guess_file_format(text: str) -> str | None:
    """Guess the format of a text: a key of `FILE_FORMATS`, or None when in doubt."""
    lines = text.lstrip().split("\n", 12)
    if lines[0].startswith(("{", "[")):
        if len(lines) > 1 and lines[0].startswith("{") and _is_json(lines[0]):
            return "jsonl"
        return "json"
    if lines[0].strip().isdigit() and len(lines) > 2 and ("Lattice=" in lines[1] or re.match(r"[A-Z]", lines[2])):
        return "extxyz"
    # The first line of a POSCAR may be empty, so the leading blanks count here.
    unstripped = text.split("\n", 6)
    if (
        len(unstripped) > 4
        and _POSCAR_SCALE.match(unstripped[1])
        and all(_THREE_FLOATS.match(line) for line in unstripped[2:5])
    ):
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

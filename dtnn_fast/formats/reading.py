# SPDX-License-Identifier: MIT
"""Read crystals from files: JSON lines, CIF, POSCAR, extended XYZ, pymatgen's JSON and packed sets."""

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


class Kind(NamedTuple):
    """A kind of file: its name for messages, how its names end, its reader, and whether it is text.

    A reader takes the path and the text of the file, which is empty for a kind that is not text.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[Path, str], Iterator[Crystal | Rejected]]
    is_text: bool = True


# Those that are text may be compressed by gzip and end in .gz as well.
KINDS = {
    "jsonl": Kind("JSON lines", (".jsonl",), read_jsonl),
    "cif": Kind("CIF", (".cif", ".mcif"), read_cif),
    "poscar": Kind("POSCAR", (".vasp", ".poscar"), read_poscar),
    "extxyz": Kind("extended XYZ", (".extxyz", ".xyz"), read_extxyz),
    "json": Kind("pymatgen JSON", (".json",), read_pymatgen_json),
    "npz": Kind("packed set", (".npz",), read_npz, is_text=False),
}


# POSCAR, CONTCAR, and what people make of them: POSCAR_relaxed, POSCAR-2, POSCAR.mp-149
_POSCAR_NAME = re.compile(r"(?:poscar|contcar)(?:[-_.].*)?")


def kind_of(path: Path) -> str | None:
    """Give the kind of a file by its name, a key of `KINDS`, or None."""
    name = path.name.lower().removesuffix(".gz")
    for name_of_kind, kind in KINDS.items():
        if name.endswith(kind.suffixes):
            return name_of_kind
    return "poscar" if _POSCAR_NAME.fullmatch(name) else None


def read_crystals(path: Path | str) -> list[Crystal | Rejected]:
    """Read all crystals of a file; their physics is not checked (see `check_crystal`).

    Args:
        path: a file whose name says its kind: .jsonl, .cif, .vasp, .poscar, POSCAR, CONTCAR, .extxyz, .xyz or .json,
            each also with .gz, or .npz.

    Returns:
        In the order of the file, a Crystal, or a Rejected with the reason where one of them cannot be read.

    Raises:
        BadFileError: the file as a whole cannot be read: missing, empty, truncated, or of another kind.
        MissingPackageError: the kind needs an optional package.
    """
    path = Path(path)
    if path.is_dir():
        raise BadFileError(f"{path}: is a folder: list its files with iter_paths")
    kind = _require_kind(path)
    if not KINDS[kind].is_text:
        return list(KINDS[kind].read(path, ""))
    text = read_text(path)
    looks = looks_like(text)
    # Whether a text is JSON or JSON lines is told better by the readers, which parse all of it.
    if looks is not None and looks != kind and {looks, kind} != {"json", "jsonl"}:
        raise BadFileError(f"{path}: named as {KINDS[kind].name}, but it looks like {KINDS[looks].name}")
    # Infinite coordinates pass through here silently; the check of the crystal names them.
    with np.errstate(all="ignore"):
        return list(KINDS[kind].read(path, text))


def _require_kind(path: Path) -> str:
    kind = kind_of(path)
    if kind is None:
        known = ", ".join(suffix for kind_ in KINDS.values() if kind_.is_text for suffix in kind_.suffixes)
        raise BadFileError(
            f"{path}: unknown kind of file: expected {known}, POSCAR or CONTCAR, each also with .gz, or .npz"
        )
    return kind

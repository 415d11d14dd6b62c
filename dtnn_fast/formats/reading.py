# SPDX-License-Identifier: MIT
"""Read crystals from files: JSON lines, CIF, POSCAR, extended XYZ, pymatgen's JSON and packed sets."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..crystals.crystal import Crystal
from ..crystals.rejected import Rejected
from ..errors import BadFileError
from .cif import read_cif
from .extxyz import read_extxyz
from .json_lines import read_jsonl
from .npz import read_npz
from .poscar import read_poscar
from .pymatgen_json import read_pymatgen_json
from .text import looks_like, read_text

__all__ = ["KINDS", "FoundFiles", "Kind", "Rejected", "iter_paths", "kind_of", "read_crystals"]


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


class FoundFiles(NamedTuple):
    """Files to read, in order.

    Args:
        files: those of a known kind.
        skipped: in folders, files of no known kind, and links to folders, which are not followed.
        rejected: folders that cannot be read.
    """

    files: list[Path]
    skipped: list[Path]
    rejected: list[Rejected]


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


def iter_paths(paths: Iterable[Path | str]) -> FoundFiles:
    """Expand folders, with all folders in them, to the files of a known kind, sorted.

    Args:
        paths: files and folders.

    Returns:
        The files, each once; the files in folders that were skipped because their kind is not known, and links to
        folders, which are not followed as they may lead in circles; and the folders that cannot be read.

    Raises:
        BadFileError: a path does not exist, or a file that is named explicitly is of no known kind.
    """
    files: dict[Path, None] = {}
    skipped: dict[Path, None] = {}
    rejected: dict[Rejected, None] = {}

    def reject(error: OSError) -> None:
        folder = Path(error.filename)
        reason = f"the folder cannot be read: {error.strerror or error}"
        rejected[Rejected(folder.name, str(folder), reason)] = None

    for path in map(Path, paths):
        if not path.is_dir():
            if not path.exists():
                raise BadFileError(f"{path}: there is no such file or folder")
            _require_kind(path)
            files[path] = None
            continue
        for folder, folders, names in os.walk(path, onerror=reject):
            folders.sort()
            skipped |= dict.fromkeys(link for link in (Path(folder, name) for name in folders) if link.is_symlink())
            for name in sorted(names):
                file = Path(folder, name)
                (skipped if kind_of(file) is None else files)[file] = None
    return FoundFiles(list(files), list(skipped), list(rejected))


def _require_kind(path: Path) -> str:
    kind = kind_of(path)
    if kind is None:
        known = ", ".join(suffix for kind_ in KINDS.values() if kind_.is_text for suffix in kind_.suffixes)
        raise BadFileError(
            f"{path}: unknown kind of file: expected {known}, POSCAR or CONTCAR, each also with .gz, or .npz"
        )
    return kind

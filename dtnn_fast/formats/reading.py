# SPDX-License-Identifier: MIT
"""Read the crystals of one file: choose the format by the file's name, check its content, and call the reader.

To add a format, follow "A new file format" in docs/architecture.md.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from ..crystals.crystal import Crystal, Rejected
from ..errors import BadFileError
from ..files import parse_json
from .archives import ARCHIVE_SUFFIXES, read_archive
from .ase_database import read_ase_database
from .cif import read_cif
from .cif_stream import stream_cif
from .compressed import COMPRESSED_ENDING, COMPRESSIONS, open_file, uncompressed_name
from .csv_file import read_csv, stream_csv
from .extxyz import read_extxyz, stream_extxyz
from .json_file import read_json
from .json_lines import read_jsonl, stream_jsonl
from .json_stream import stream_json
from .packed_set import read_npz
from .parquet_file import read_parquet
from .poscar import read_poscar
from .text_files import NUMBER_PATTERN, TextFile, read_text, split_lines


class FileFormat(NamedTuple):
    """A file format of crystals.

    Args:
        name: name for messages.
        suffixes: endings of file names, in lower case.
        read: the reader. It takes the path and the text of the file; the text is empty for a binary format.
        stream: for text, the reader of large files, where there is one. It takes the path and the text in parts.
        is_text: whether files are text; these may also be compressed and end in .gz, .bz2 or .xz.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[Path, str], Iterator[Crystal | Rejected]]
    stream: Callable[[Path, Iterable[str]], Iterator[Crystal | Rejected]] | None = None
    is_text: bool = True


def _read_archive(path: Path, text: str) -> Iterator[Crystal | Rejected]:
    """Read the text files of an archive; `text` is not used."""
    return read_archive(path, lambda file: file_format_of(file) is not None, _read_member)


def _read_member(path: Path, file: IO[bytes]) -> Iterator[Crystal | Rejected]:
    key = require_file_format(path)
    if not FILE_FORMATS[key].is_text:
        raise BadFileError(f"{path}: {FILE_FORMATS[key].name} inside an archive: unpack it first")
    return _read_text_file(TextFile(path, file), key)


# Each file format by the name that `file_format_of` returns, with its suffixes and readers.
FILE_FORMATS = {
    "jsonl": FileFormat("JSON lines", (".jsonl",), read_jsonl, stream_jsonl),
    "cif": FileFormat("CIF", (".cif", ".mcif"), read_cif, stream_cif),
    "poscar": FileFormat("POSCAR", (".vasp", ".poscar"), read_poscar),
    "extxyz": FileFormat("extended XYZ", (".extxyz", ".xyz"), read_extxyz, stream_extxyz),
    "json": FileFormat("JSON", (".json",), read_json, stream_json),
    "csv": FileFormat("CSV", (".csv",), read_csv, stream_csv),
    "npz": FileFormat("packed set", (".npz",), read_npz, is_text=False),
    "parquet": FileFormat("Parquet", (".parquet",), read_parquet, is_text=False),
    "ase_db": FileFormat("ASE database", (".db",), read_ase_database, is_text=False),
    "archive": FileFormat("archive", ARCHIVE_SUFFIXES, _read_archive, is_text=False),
}
# POSCAR, CONTCAR, and common variants: POSCAR_relaxed, POSCAR-2, POSCAR.mp-149
_POSCAR_NAME = re.compile(r"(?:poscar|contcar)(?:[-_.].*)?")


def file_format_of(path: Path | str) -> str | None:
    """Return the format of a file by its name: a key of `FILE_FORMATS`, or None where it is unknown."""
    name = uncompressed_name(Path(path).name.lower())
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
        raise BadFileError(f"{path}: unknown file format: expected {known_file_names()}{_content_hint(path)}")
    return key


def known_file_names() -> str:
    """List the endings and names of files that can be read, for messages."""
    text = [suffix for known in FILE_FORMATS.values() if known.is_text for suffix in known.suffixes]
    binary = [suffix for known in FILE_FORMATS.values() if not known.is_text for suffix in known.suffixes]
    return f"{', '.join(text)}, POSCAR or CONTCAR, each also with {', '.join(COMPRESSIONS)}, or {', '.join(binary)}"


def _content_hint(path: Path) -> str:
    """Return what a file of unknown ending looks like, to add to a message."""
    try:
        format_by_content = _guess_file_format(read_text(path))
    except (BadFileError, MemoryError):
        return ""
    if format_by_content is None:
        return ""
    file_format = FILE_FORMATS[format_by_content]
    return f"; it looks like {file_format.name}, whose name should end in {file_format.suffixes[0]}"


def read_crystals(path: Path | str) -> list[Crystal | Rejected]:
    """Read all crystals of a file; their physics is not checked (see `check_crystal`).

    Args:
        path: a file whose name tells its format: .jsonl, .cif, .vasp, .poscar, POSCAR, CONTCAR, .extxyz, .xyz, .json or
            .csv, each also with .gz, .bz2 or .xz; or .npz, .parquet, .db, .zip or .tar.

    Returns:
        In the order of the file, a Crystal, or a Rejected with the reason where a crystal cannot be read.

    Raises:
        BadFileError: the file as a whole cannot be read: missing, empty, truncated, or of another format.
        MissingPackageError: the format needs an optional package.
    """
    return list(iter_crystals(path))


def iter_crystals(path: Path | str) -> Iterator[Crystal | Rejected]:
    """Read the crystals of a file one after the other, as `read_crystals` does.

    Text of more than `text_files.WHOLE_BYTES` in CIF, JSON, JSON lines, extended XYZ and CSV is read in parts, so that
    a file of any length takes little memory. Archives, Parquet files and databases are always read in parts.

    Args:
        path: as in `read_crystals`.

    Raises:
        BadFileError: as in `read_crystals`. If the file is read in parts, the crystals before the damage are yielded
            first.
        MissingPackageError: the format needs an optional package.
    """
    path = Path(path)
    format_by_name = file_format_of(path)
    if format_by_name is None:
        if path.is_dir():
            raise BadFileError(f"{path}: is a folder: list its files with expand_paths")
        format_by_name = require_file_format(path)
    file_format = FILE_FORMATS[format_by_name]
    if not file_format.is_text:
        yield from _without_warnings(file_format.read(path, ""))
        return
    with open_file(path) as file:
        yield from _read_text_file(TextFile(path, file), format_by_name)


def iter_crystals_of_bytes(name: str, data: bytes, file_format: str | None = None) -> Iterator[Crystal | Rejected]:
    """Read the crystals of a text in memory, as `iter_crystals` does; no file is opened, whatever the name is.

    Args:
        name: name of the text, which tells its format. Of a path, only the last part counts. Where the name tells no
            format, the content does.
        data: the text as bytes; not compressed.
        file_format: a key of `FILE_FORMATS` whose files are text, which counts instead of the name.

    Raises:
        BadFileError: as in `iter_crystals`; or the text is compressed, an archive or of a binary format.
        MissingPackageError: the format needs an optional package.
    """
    # A full stop or a colon alone is no name either.
    last = re.split(r"[/\\]", name)[-1].strip(" .:") or "crystal"
    path = Path(last)
    if COMPRESSED_ENDING.search(last) or last.lower().endswith(ARCHIVE_SUFFIXES):
        raise BadFileError(f"{path}: compressed files and archives are not read here: unpack it first")
    key = file_format or file_format_of(path)
    if key is None:
        key = _guess_file_format(TextFile(path, io.BytesIO(data)).read())
    if key is None or not FILE_FORMATS[key].is_text:
        texts = [known_format for known_format in FILE_FORMATS.values() if known_format.is_text]
        if not path.suffix:  # pasted text has no name to look at
            known = ", ".join(one.name for one in texts)
            raise BadFileError(f"{path}: unknown file format: the text looks like none of {known}")
        endings = ", ".join(one.suffixes[0] for one in texts)
        raise BadFileError(f"{path}: unknown file format: expected a name that ends in {endings}")
    if not last.lower().endswith(FILE_FORMATS[key].suffixes):
        # Crystals are named after the file without its ending. A POSCAR would be named after its folder.
        path = Path(f"{last}{FILE_FORMATS[key].suffixes[0]}")
    return _read_text_file(TextFile(path, io.BytesIO(data)), key)


def _read_text_file(text_file: TextFile, format_by_name: str) -> Iterator[Crystal | Rejected]:
    """Read a text file by its format, a key of `FILE_FORMATS`."""
    path = text_file.path
    file_format = FILE_FORMATS[format_by_name]
    chunks: Iterator[str] = iter(())
    if file_format.stream is None or text_file.is_whole:
        start = text_file.read()
    else:
        chunks = text_file.chunks()
        start = next(chunks)
    format_by_content = _guess_file_format(start)
    # JSON and JSON lines are left to their readers, which parse the whole text; cells of CSV hold texts of any format.
    is_either = {format_by_content, format_by_name} == {"json", "jsonl"} or format_by_name == "csv"
    if format_by_content not in (None, format_by_name) and not is_either:
        looks_like = FILE_FORMATS[format_by_content].name
        raise BadFileError(f"{path}: named as {file_format.name}, but it looks like {looks_like}")
    if file_format.stream is None or text_file.is_whole:
        yield from _without_warnings(file_format.read(path, start))
    else:
        yield from _without_warnings(file_format.stream(path, chain([start], chunks)))


def _without_warnings(items: Iterator[Crystal | Rejected]) -> Iterator[Crystal | Rejected]:
    """Pass items on; infinite coordinates are accepted here, because `check_crystal` reports them."""
    while True:
        with np.errstate(all="ignore"):  # not around the yield, where the caller computes
            item = next(items, None)
        if item is None:
            return
        yield item


_POSCAR_SCALE = re.compile(rf"\s*{NUMBER_PATTERN}(?:\s+{NUMBER_PATTERN}\s+{NUMBER_PATTERN})?\s*(?:[!#].*)?$")
_THREE_NUMBERS = re.compile(rf"\s*{NUMBER_PATTERN}\s+{NUMBER_PATTERN}\s+{NUMBER_PATTERN}(?:\s|$)")
_XYZ_ATOM = re.compile(rf"\s*[A-Z][a-z]?\s+{NUMBER_PATTERN}\s+{NUMBER_PATTERN}\s+{NUMBER_PATTERN}(?:\s|$)")
_XYZ_KEY = re.compile(r"""(?:^|\s)"?(?:lattice|properties)"?\s*=""", re.IGNORECASE)
# An object begins with a name in quotes, an array with a value.
_JSON = re.compile(r"""(?:\s*(?://|\#)[^\n]*\n)*\s*(?:\{\s*["}]|\[\s*(?:["{}\[\]\d-]|true|false|null|NaN|Infinity))""")
_CIF = re.compile(r"^[ \t]*(?:data_\S|_cell[_.]length_a\b)", re.MULTILINE | re.IGNORECASE)


def _guess_file_format(text: str) -> str | None:
    """Guess the format of a text by its grammar: a key of `FILE_FORMATS`, or None when in doubt.

    A POSCAR comes first, because any text may stand in its comment line.
    """
    lines = split_lines(text, maxsplit=12)
    if len(lines) > 4 and _POSCAR_SCALE.match(lines[1]) and all(map(_THREE_NUMBERS.match, lines[2:5])):
        return "poscar"
    first = next((row for row, line in enumerate(lines) if line.strip()), 0)
    if lines[first].strip().isdecimal() and len(lines) > first + 2:
        comment, atom = lines[first + 1 : first + 3]
        if _XYZ_KEY.search(comment) or _XYZ_ATOM.match(atom):
            return "extxyz"
    if _JSON.match(text):
        is_first_of_many = len(lines) > first + 1 and lines[first].lstrip().startswith("{") and _is_json(lines[first])
        return "jsonl" if is_first_of_many else "json"
    if _CIF.search(text):
        return "cif"
    return None


def _is_json(text: str) -> bool:
    try:
        parse_json(text)
    except (ValueError, RecursionError):
        return False
    return True

# SPDX-License-Identifier: MIT
"""Read extended XYZ files, one or several frames.

https://github.com/libAtoms/extxyz is the grammar. Keys are compared without regard to case, as in GPUMD.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..crystals.crystal import Crystal, Rejected
from ..crystals.elements import atomic_number
from ..errors import BadCrystalError, BadFileError
from .file_ids import default_id
from .scalars import Scalar, parse_scalar, scalars_of
from .text_files import lines_of, parse_number

# key=value: the key bare or in quotes; the value in quotes, braces or brackets where it has blanks.
_ENTRY = re.compile(
    r"""\s*(?:"(?P<quoted_key>(?:[^"\\]|\\.)*)"|(?P<key>[^\s=",{}\[\]\\]+))"""
    r"""\s*=\s*(?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>(?:[^'\\]|\\.)*)'|\{(?P<braces>[^}]*)\}"""
    r"""|(?P<brackets>\[(?:[^\[\]]|\[[^\[\]]*\])*\])|(?P<bare>[^\s"'{}\[\]]\S*))(?=\s|,|$)"""
)
# Words without a value, and what cannot be understood.
_OTHER_WORD = re.compile(r"""\s*(?:(?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')(?=\s|,|$)|\S+)""")
_ID_KEYS = ("id", "material_id", "name", "label")
_BOOLEANS = {"T": True, "TRUE": True, "1": True, "F": False, "FALSE": False, "0": False}
# What describes the structure itself.
_NOT_INFO = ("lattice", "properties", "pbc", "scaled", "fractional", "direct")
# No crystal has more; a larger number is damage, and the whole file would be read for it.
_MAX_ATOMS = 10_000_000
_FRACTIONAL_KEYS = ("scaled", "fractional", "direct")


def read_extxyz(path: Path, text: str) -> Iterator[Crystal | Rejected]:
    """Read the frames of an extended XYZ file.

    A frame without ``Lattice="..."`` is a molecule and is rejected. Its id is the value of id=, material_id=, name= or
    label= on the comment line, otherwise the file name with the number of the frame, from 1. Other scalars of the
    comment line go to `Crystal.info`.

    Raises:
        BadFileError: a frame does not begin with the number of atoms, or the file ends before the frame does.
    """
    return stream_extxyz(path, [text])


def stream_extxyz(path: Path, chunks: Iterable[str]) -> Iterator[Crystal | Rejected]:
    """Read a large file as `read_extxyz` does, with one frame in memory.

    Args:
        path: the file, for names and messages.
        chunks: its text in parts.
    """
    lines: Iterator[str] = (line for line, _ in lines_of(path, chunks))
    stem = default_id(path)
    frame = row = 0
    waiting = True
    while waiting:
        row, first = _next_line(lines, row)
        if first is None:
            return
        frame += 1
        if not re.fullmatch(r"[0-9]{1,18}", first.strip()):
            raise BadFileError(
                f"{path}: not an extended XYZ file: line {row}: expected the number of atoms of frame {frame}, "
                f"got {first.strip()[:60]!r}"
            )
        count = int(first)
        body = list(islice(lines, min(count, _MAX_ATOMS) + 1))
        if len(body) < min(count, _MAX_ATOMS) + 1:
            raise BadFileError(
                f"{path}: the file is truncated: frame {frame} has {count} atoms and must end at line "
                f"{row + 1 + count}, but the file ends at line {row + len(body)}"
            )
        if count > _MAX_ATOMS:
            raise BadFileError(f"{path}: line {row}: frame {frame} has {count:,} atoms, more than {_MAX_ATOMS:,}")
        end, following = row + len(body), None
        if frame == 1:
            # A file with a single crystal is named by the file alone.
            end, following = _next_line(lines, end)
            waiting = following is not None
            if following is not None:
                lines = chain([following], lines)
                end -= 1
        frame_id, source = (f"{stem}:{frame}", f"{path}:{row}") if waiting else (stem, str(path))
        yield _read_frame(body, row + 1, frame_id, source)
        row = end


def _next_line(lines: Iterator[str], row: int) -> tuple[int, str | None]:
    """Return the next line that is not blank and its number from 1, or None at the end; `row` is the last number."""
    for line in lines:
        row += 1
        if line.strip():
            return row, line
    return row, None


def _read_frame(body: list[str], number: int, frame_id: str, source: str) -> Crystal | Rejected:
    """Read a frame: its comment line, which is line `number` of the file, and its atoms."""
    name = frame_id
    try:
        entries, spelling = _entries(body[0])
        id_key = next((key for key in _ID_KEYS if entries.get(key)), None)
        name = frame_id if id_key is None else entries[id_key]
        cell, periodic = _cell(entries)
        numbers, positions = _atoms(entries, body[1:], number + 1)
        return Crystal.make(
            name, numbers, positions, cell, periodic, source=source, info=_info(entries, spelling, id_key)
        )
    except BadCrystalError as error:
        return Rejected.from_error(error, name, source)
    except ValueError as error:
        return Rejected(name, source, f"not a frame of extended XYZ: {error}")


def _info(entries: dict[str, str], spelling: dict[str, str], id_key: str | None) -> dict[str, Scalar]:
    """Return what the comment line says beside the structure, under the names as they are spelled."""
    others = (key for key in entries if key not in _NOT_INFO and key != id_key)
    # T and F are booleans here, as in pbc="T T F".
    return scalars_of(
        {spelling[key]: {"T": True, "F": False}.get(entries[key], parse_scalar(entries[key])) for key in others}
    )


def _entries(comment: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the values on the comment line by key in lower case, and how each key is spelled."""
    entries: dict[str, str] = {}
    spelling: dict[str, str] = {}
    place = 0
    while place < len(comment):
        match = _ENTRY.match(comment, place)
        if match is None:
            word = _OTHER_WORD.match(comment, place)
            if word is None:
                break
            if '"' in word[0] and word["quoted"] is None:
                raise ValueError(f"cannot understand {word[0].strip()!r} on the comment line: is a quote missing?")
            place = word.end()
            continue
        place = match.end()
        written = match["quoted_key"] if match["key"] is None else match["key"]
        key = written.lower()
        spelling.setdefault(key, written)
        value = next(
            match[group] for group in ("double", "single", "braces", "brackets", "bare") if match[group] is not None
        )
        if match["double"] is not None or match["single"] is not None:
            value = re.sub(r"\\(.)", lambda escape: "\n" if escape[1] == "n" else escape[1], value)
        if entries.setdefault(key, value) != value:
            raise ValueError(f"{key}= occurs twice on the comment line, with different values")
    return entries, spelling


def _cell(entries: dict[str, str]) -> tuple[np.ndarray, list[bool]]:
    if "lattice" not in entries:
        raise ValueError('no Lattice="..." on the comment line, so this is a molecule, not a crystal')
    words = [word for word in re.split(r"[\s,\[\]]+", entries["lattice"]) if word]
    lattice = [number for number in map(parse_number, words) if number is not None]
    if len(words) != 9 or len(lattice) != 9:
        raise ValueError(f"expected 9 numbers in Lattice, got {len(lattice)}: {entries['lattice']!r}")
    pbc = [word for word in re.split(r"[\s,\[\]]+", entries.get("pbc", "T T T")) if word]
    periodic = [_BOOLEANS.get(word.upper()) for word in pbc]
    if len(periodic) != 3 or None in periodic:
        raise ValueError(f"expected pbc to be three of T or F, got {entries['pbc']!r}")
    for key in _FRACTIONAL_KEYS:
        if _BOOLEANS.get(entries.get(key, "F").upper(), True):
            raise ValueError(f"{key}={entries[key]}: expected Cartesian positions, as extended XYZ has them")
    return np.reshape(lattice, (3, 3)), [bool(value) for value in periodic]


class _Columns(NamedTuple):
    """Columns of the lines of atoms, counted from 0.

    Args:
        symbol: column of the element symbol, or None.
        number: column of the atomic number, or None.
        position: first of three columns.
        total: number of columns.
        is_plain: whether the columns are those of plain XYZ, which allows atomic numbers for symbols.
    """

    symbol: int | None
    number: int | None
    position: int
    total: int
    is_plain: bool = False


def _atoms(entries: dict[str, str], lines: list[str], first_number: int) -> tuple[list[int], list[list[float]]]:
    columns = _columns(entries["properties"]) if "properties" in entries else _Columns(0, None, 1, 4, True)
    numbers = []
    positions = []
    for number, line in enumerate(lines, start=first_number):
        words = line.split()
        if len(words) < columns.total:
            raise ValueError(
                f"line {number}: expected an atom, got {line.strip()!r}: {columns.total} columns are needed"
            )
        if len(words) > columns.total:
            expected = "symbol x y z, as there is no Properties=" if columns.is_plain else "as in Properties"
            raise ValueError(f"line {number}: expected {columns.total} columns ({expected}), got {len(words)}")
        numbers.append(_atomic_number(columns, words, number))
        position = [parse_number(word) for word in words[columns.position : columns.position + 3]]
        if None in position:
            raise ValueError(f"line {number}: expected a position, got {line.strip()!r}")
        positions.append([value for value in position if value is not None])
    return numbers, positions


def _atomic_number(columns: _Columns, words: list[str], line_number: int) -> int:
    named = set()
    if columns.number is not None or (columns.is_plain and words[0].isdecimal()):
        word = words[columns.number or 0]
        if not re.fullmatch(r"[0-9]{1,9}", word):
            raise ValueError(f"line {line_number}: expected an atomic number, got {word!r}")
        named.add(int(word))
    elif columns.symbol is not None:
        named.add(atomic_number(words[columns.symbol]))
    if columns.number is not None and columns.symbol is not None:
        named.add(atomic_number(words[columns.symbol]))
    if len(named) > 1:
        raise ValueError(f"line {line_number}: the element and the atomic number disagree: {' '.join(words)!r}")
    return named.pop()


def _columns(properties: str) -> _Columns:
    """Find the columns of the element and the position in ``name:type:width`` triples."""
    words = properties.split(":")
    columns: dict[str, tuple[int, str, str]] = {}
    total = 0
    for name, column_type, width in zip(words[::3], words[1::3], words[2::3], strict=True):
        if not re.fullmatch("[1-9][0-9]{0,5}", width) or column_type.upper() not in ("S", "I", "R", "L"):
            raise ValueError(f"expected name:type:width in Properties, got {name}:{column_type}:{width}")
        if name.lower() in columns:
            raise ValueError(f"{name} occurs twice in Properties: {properties!r}")
        columns[name.lower()] = (total, column_type.upper(), width)
        total += int(width)
    symbol = columns.get("species")
    number = columns.get("z") or columns.get("numbers")
    if symbol is not None and symbol[1] == "I":  # species:I:1, for atomic numbers
        symbol, number = None, symbol
    position = columns.get("pos") or columns.get("positions")
    if (symbol is None and number is None) or position is None:
        raise ValueError(f"expected species (or Z) and pos in Properties, got {properties!r}")
    expected = ((symbol, ("S",), "1"), (number, ("I",), "1"), (position, ("R", "I"), "3"))
    for column, column_types, width in expected:
        if column is not None and (column[1] not in column_types or column[2] != width):
            raise ValueError(f"expected species:S:1 or Z:I:1 and pos:R:3 in Properties, got {properties!r}")
    return _Columns(symbol and symbol[0], number and number[0], position[0], total)

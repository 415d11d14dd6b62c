# SPDX-License-Identifier: MIT
"""Read extended XYZ files, one or several frames."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..crystals.crystal import Crystal, Rejected
from ..crystals.elements import atomic_number
from ..errors import BadCrystalError, BadFileError

# key=value, where a value with blanks is in quotes, braces or brackets.
_ENTRY = re.compile(r"""([\w.:-]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|\{([^}]*)\}|(\[[^=]*\])|(\S+))""")
_ID_KEYS = ("id", "material_id", "name", "label")
_BOOLEANS = {"T": True, "TRUE": True, "1": True, "F": False, "FALSE": False, "0": False}
_PLAIN_PROPERTIES = "species:S:1:pos:R:3"


def read_extxyz(path: Path, text: str) -> Iterator[Crystal | Rejected]:
    """Read the frames of an extended XYZ file.

    A frame without ``Lattice="..."`` is a molecule and is rejected. Its id is the value of id=, material_id=, name= or
    label= on the comment line, otherwise the file name with the number of the frame, from 1.

    Raises:
        BadFileError: a frame does not begin with the number of atoms, or the file ends before the frame does.
    """
    lines = text.splitlines()
    stem = path.name.removesuffix(".gz").rsplit(".", 1)[0]
    row = frame = 0
    while row < len(lines):
        if not lines[row].strip():
            row += 1
            continue
        frame += 1
        try:
            count = int(lines[row])
        except ValueError:
            count = -1
        if count < 0:
            raise BadFileError(
                f"{path}: not an extended XYZ file: line {row + 1}: expected the number of atoms of frame {frame}, "
                f"got {lines[row].strip()[:60]!r}"
            )
        end = row + 2 + count
        if end > len(lines):
            raise BadFileError(
                f"{path}: the file is truncated: frame {frame} has {count} atoms and must end at line {end}, "
                f"but the file ends at line {len(lines)}"
            )
        # A file with a single crystal is named by the file alone.
        is_single = frame == 1 and not any(line.strip() for line in lines[end:])
        default_id = stem if is_single else f"{stem}:{frame}"
        source = str(path) if is_single else f"{path}:{row + 1}"
        yield _read_frame(lines, row, end, default_id, source)
        row = end


def _read_frame(lines: list[str], row: int, end: int, default_id: str, source: str) -> Crystal | Rejected:
    """Read the frame in lines row..end; its first line is the number of atoms, its second the comment."""
    entries = {}
    for match in _ENTRY.finditer(lines[row + 1]):
        entries[match.group(1)] = next(value for value in match.groups()[1:] if value is not None)
    name = next((entries[key] for key in _ID_KEYS if key in entries), default_id)
    try:
        cell, periodic = _cell(entries)
        numbers, positions = _atoms(entries, lines, row + 2, end)
        return Crystal.make(name, numbers, positions, cell, periodic, source=source)
    except BadCrystalError as error:
        return Rejected.from_error(error, name, source)
    except ValueError as error:
        return Rejected(name, source, f"not a frame of extended XYZ: {error}")


def _cell(entries: dict[str, str]) -> tuple[np.ndarray, list[bool]]:
    if "Lattice" not in entries:
        raise ValueError('no Lattice="..." on the comment line, so this is a molecule, not a crystal')
    lattice = [float(word) for word in re.split(r"[\s,\[\]]+", entries["Lattice"]) if word]
    if len(lattice) != 9:
        raise ValueError(f"expected 9 numbers in Lattice, got {len(lattice)}")
    words = re.split(r"[\s,\[\]]+", entries.get("pbc", "T T T").strip("[]"))
    periodic = [_BOOLEANS.get(word.upper()) for word in words]
    if len(periodic) != 3 or None in periodic:
        raise ValueError(f"expected pbc to be three of T or F, got {entries['pbc']!r}")
    return np.reshape(lattice, (3, 3)), [bool(value) for value in periodic]


def _atoms(entries: dict[str, str], lines: list[str], begin: int, end: int) -> tuple[list[int], list[list[float]]]:
    species_column, species_type, position_column = _columns(entries.get("Properties", _PLAIN_PROPERTIES))
    numbers = []
    positions = []
    for row in range(begin, end):
        words = lines[row].split()
        if len(words) <= max(species_column, position_column + 2):
            raise ValueError(f"line {row + 1}: expected an atom, got {lines[row].strip()!r}")
        species = words[species_column]
        numbers.append(int(species) if species_type == "I" else atomic_number(species))
        positions.append([float(word) for word in words[position_column : position_column + 3]])
    return numbers, positions


def _columns(properties: str) -> tuple[int, str, int]:
    """Find the column of the element, its type and the first column of the position in ``name:type:width`` triples."""
    words = properties.split(":")
    columns: dict[str, tuple[int, str]] = {}
    column = 0
    for name, column_type, width in zip(words[::3], words[1::3], words[2::3], strict=True):
        columns[name] = (column, column_type)
        column += int(width)
    species = columns.get("species") or columns.get("Z") or columns.get("numbers")
    if species is None or "pos" not in columns:
        raise ValueError(f"expected species (or Z) and pos in Properties, got {properties!r}")
    return species[0], species[1], columns["pos"][0]

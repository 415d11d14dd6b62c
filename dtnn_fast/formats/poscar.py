# SPDX-License-Identifier: MIT
"""Read POSCAR and CONTCAR files of VASP."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..crystals.crystal import Crystal, Rejected, to_cartesian
from ..crystals.elements import atomic_number
from ..errors import BadCrystalError, BadFileError

# Fortran writes 1.0d0 too; NaN and infinity are left to the check of the crystal, which names the atom.
_NUMBER = re.compile(r"[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:[eEdD][-+]?\d+)?|nan|inf(?:inity)?)", re.IGNORECASE)


def read_poscar(path: Path, text: str) -> Iterator[Crystal | Rejected]:
    """Read the crystal of a POSCAR; element symbols may be in line 6, in the comment, or behind the positions.

    Raises:
        BadFileError: a line is missing or wrong.
    """
    # VASP calls all its files POSCAR, so the folder tells which crystal it is.
    folder = path.resolve().parent.name if path.name.upper() in ("POSCAR", "CONTCAR") else ""
    name = f"{folder}/{path.name}" if folder else path.name.removesuffix(".gz").rsplit(".", 1)[0]
    try:
        yield _parse_poscar(text.splitlines(), name, str(path))
    except BadCrystalError as error:
        yield Rejected.from_error(error, name, str(path))
    except ValueError as error:
        raise BadFileError(f"{path}: not a POSCAR file: {error}") from error


def _parse_poscar(lines: list[str], name: str, source: str) -> Crystal:
    scales = _leading_numbers(lines, 1, (1, 3), "the scale")
    cell = np.array([_leading_numbers(lines, row, (3,), "a lattice vector") for row in (2, 3, 4)])
    if len(scales) == 1 and scales[0] < 0:
        # A negative scale is the volume of the cell.
        scale = np.full(3, (-scales[0] / abs(np.linalg.det(cell))) ** (1 / 3)) if np.linalg.det(cell) else np.ones(3)
    else:
        scale = np.broadcast_to(scales, (3,))
    cell = cell * scale

    row = 5
    words = _words(lines, row, "the elements or the numbers of atoms")
    symbols: list[str] = []
    if not words[0].isdigit():
        symbols = words
        row += 1
    # Anything behind the numbers is a comment.
    count_text = re.match(r"\s*((?:\d+\s+)*\d+)(?:\s|$)", _line(lines, row, "the numbers of atoms"))
    if count_text is None:
        raise ValueError(f"line {row + 1}: expected the numbers of atoms, got {lines[row].strip()!r}")
    counts = [int(word) for word in count_text.group(1).split()]
    row += 1
    if _words(lines, row, "Direct or Cartesian")[0][0] in "sS":
        row += 1
    mode = _words(lines, row, "Direct or Cartesian")[0]
    if mode[0] not in "dDcCkK":
        raise ValueError(f"line {row + 1}: expected Direct or Cartesian, got {mode!r}")
    row += 1

    total = sum(counts)
    if len(lines) - row < total:
        raise ValueError(
            f"expected {total} positions from line {row + 1} on, the file is truncated after line {len(lines)}"
        )
    coordinates = np.array([_leading_numbers(lines, row + atom, (3,), "a position") for atom in range(total)]).reshape(
        -1, 3
    )
    numbers = _elements(symbols, counts, lines, row)
    if mode[0] in "cCkK":
        return Crystal.make(name, numbers, coordinates * scale, cell, source=source)
    return Crystal.make(name, numbers, to_cartesian(coordinates, cell), cell, source=source)


def _elements(symbols: list[str], counts: list[int], lines: list[str], row: int) -> list[int]:
    """Return the atomic numbers, from line 6 or else from behind each position or else from the comment line."""
    if not symbols:
        behind = [lines[row + atom].split() for atom in range(sum(counts))]
        if behind and all(len(words) >= 4 and _is_symbol(words[-1]) for words in behind):
            return [atomic_number(_strip_suffix(words[-1])) for words in behind]
        symbols = lines[0].split()
        if len(symbols) != len(counts) or not all(map(_is_symbol, symbols)):
            raise ValueError("no element symbols: expected them in line 6, above the numbers of atoms")
    if len(symbols) != len(counts):
        raise ValueError(f"line 6 names {len(symbols)} elements, line 7 has {len(counts)} numbers of atoms")
    numbers: list[int] = []
    for symbol, count in zip(symbols, counts, strict=True):
        numbers += [atomic_number(_strip_suffix(symbol))] * count
    return numbers


def _strip_suffix(symbol: str) -> str:
    """Return the element of a symbol with a suffix of VASP or other programs: Fe_pv, Si/0a1b2c, O2-."""
    match = re.match(r"[A-Z][a-z]?(?![a-z])", symbol)
    if match is None:
        raise ValueError(f"{symbol!r} is not the symbol of an element")
    return match.group()


def _is_symbol(word: str) -> bool:
    try:
        atomic_number(_strip_suffix(word))
    except ValueError:
        return False
    return True


def _line(lines: list[str], row: int, meaning: str) -> str:
    if row >= len(lines):
        raise ValueError(f"expected {meaning} in line {row + 1}, the file is truncated after line {len(lines)}")
    return lines[row]


def _words(lines: list[str], row: int, meaning: str) -> list[str]:
    words = _line(lines, row, meaning).split()
    if not words:
        raise ValueError(f"line {row + 1}: expected {meaning}, got an empty line")
    return words


def _leading_numbers(lines: list[str], row: int, counts: tuple[int, ...], meaning: str) -> list[float]:
    """Read the numbers at the start of a line, as many as the largest of `counts` that the line has."""
    numbers = []
    for word in _line(lines, row, meaning).split():
        if not _NUMBER.fullmatch(word):
            break
        numbers.append(float(word.lower().replace("d", "e")))
    for count in sorted(counts, reverse=True):
        if len(numbers) >= count:
            return numbers[:count]
    raise ValueError(f"line {row + 1}: expected {meaning}, got {lines[row].strip()!r}")

# SPDX-License-Identifier: MIT
"""Read POSCAR and CONTCAR files of VASP 4 to 6.

https://vasp.at/wiki/POSCAR is the grammar. Files without a line of element symbols (VASP 4) leave them to other files;
they are read where the comment line or the lines of the positions name the elements.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..crystals.crystal import Crystal, Rejected, to_cartesian
from ..crystals.elements import SYMBOLS, atomic_number
from ..errors import BadCrystalError, BadFileError
from .file_ids import default_id
from .text_files import NUMBER_PATTERN, parse_number, split_lines

_COUNT = re.compile(r"[0-9]+")
# Begins like a number, so it is not a remark behind the numbers.
_NUMERIC = re.compile(r"[-+.0-9]")
# An element with what VASP and other programs append: Fe_pv, Si/0a1b2c, Mg_pv/f474ac0d, Fe2, O2-.
_SYMBOL = re.compile(r"([A-Z][a-z]?)([0-9]*)[+-]?(?:_\w+)?(?:/[0-9A-Za-z]+)?", re.ASCII)
# Flags of selective dynamics, as Fortran reads them.
_FLAG = re.compile(r"\.?(?:[tTfF]|true|false|True|False|TRUE|FALSE)\.?")
_ATOM_WITH_WORDS = re.compile(
    rf"^[ \t]*{NUMBER_PATTERN}[ \t]+{NUMBER_PATTERN}[ \t]+{NUMBER_PATTERN}[ \t]+[A-Za-z]", re.MULTILINE
)
_SECOND_STRUCTURE = re.compile(r"^((?:[ \t]*[A-Z][a-z]?\b)+[^\n]*)\n[ \t]*[0-9]+(?:[ \t]+[0-9]+)*[ \t]*$", re.MULTILINE)


def read_poscar(path: Path, text: str) -> Iterator[Crystal | Rejected]:
    """Read the crystal of a POSCAR.

    Element symbols are in line 6, or behind all positions, or they are the whole comment line. Flags of selective
    dynamics are never taken for symbols. Velocities and what follows them are ignored.

    Raises:
        BadFileError: a line is missing or wrong, the elements are not named, or they are named differently twice.
    """
    name = default_id(path)
    try:
        yield _parse_poscar(split_lines(text), name, str(path))
    except BadCrystalError as error:
        yield Rejected.from_error(error, name, str(path))
    except ValueError as error:
        raise BadFileError(f"{path}: not a POSCAR file: {error}") from error


class _Species(NamedTuple):
    """The lines of symbols and numbers of atoms.

    Args:
        symbols: as written; empty in files of VASP 4.
        counts: number of atoms of each species.
        end: row after these lines, counted from 0.
    """

    symbols: list[str]
    counts: list[int]
    end: int


def _parse_poscar(lines: list[str], name: str, source: str) -> Crystal:
    vectors = np.array([_numbers(lines, row, (3,), "a lattice vector") for row in (2, 3, 4)])
    scale = _scale(lines, vectors)
    cell = vectors * scale
    species = _read_species(lines)
    row = species.end
    is_selective = _words(lines, row, "Direct or Cartesian")[0][0] in "sS"
    row += is_selective
    mode = _words(lines, row, "Direct or Cartesian")[0]
    if mode[0] not in "dDcCkK":
        raise ValueError(f"line {row + 1}: expected Direct or Cartesian, got {mode!r}")
    row += 1

    total = sum(species.counts)
    if len(lines) - row < total:
        raise ValueError(
            f"expected {total} positions from line {row + 1} on, the file is truncated after line {len(lines)}"
        )
    coordinates = np.empty((total, 3))
    symbols_behind = []
    for atom in range(total):
        coordinates[atom], words = _position(lines, row + atom)
        symbols_behind.append(_symbol_behind(words, is_selective))
    _check_end(lines, row + total, total)
    numbers = _elements(species, symbols_behind, lines[0])
    if mode[0] in "cCkK":
        return Crystal.make(name, numbers, coordinates * scale, cell, source=source)
    return Crystal.make(name, numbers, to_cartesian(coordinates, cell), cell, source=source)


def _scale(lines: list[str], vectors: np.ndarray) -> np.ndarray:
    """Read the scale of line 2: one number, three for x, y and z, or the negative volume of the cell. [3]"""
    scales = np.array(_numbers(lines, 1, (1, 3), "one or three numbers for the scale"))
    if len(scales) == 3 and (scales <= 0).any():
        raise ValueError(f"line 2: expected three positive scales, got {lines[1].strip()!r}")
    if (scales == 0).any():
        raise ValueError("line 2: the scale is 0")
    volume = abs(np.linalg.det(vectors))
    if scales[0] < 0:
        # A cell without volume is named by the check of the crystal.
        scales = np.array([(-scales[0] / volume) ** (1 / 3) if volume else 1.0])
    return np.broadcast_to(scales, (3,))


def _read_species(lines: list[str]) -> _Species:
    """Read the symbols, if any, and the numbers of atoms; VASP wraps both after 20."""
    row = 5
    symbols: list[str] = []
    words = _words(lines, row, "the elements or the numbers of atoms")
    while not _NUMERIC.match(words[0]):
        if symbols and not all(map(_SYMBOL.fullmatch, words)):
            raise ValueError(f"line {row + 1}: expected the numbers of atoms, got {lines[row].strip()!r}")
        for word in words:
            _element(word)
        symbols += words
        row += 1
        words = _words(lines, row, "the numbers of atoms")
    first_counts = row
    counts: list[int] = []
    while _NUMERIC.match(words[0]):
        for word in words:
            if _COUNT.fullmatch(word):
                counts.append(int(word))
            elif _NUMERIC.match(word):
                raise ValueError(f"line {row + 1}: expected the numbers of atoms, got {lines[row].strip()!r}")
            else:
                break  # a remark
        row += 1
        words = _words(lines, row, "Direct or Cartesian")
    if symbols and len(symbols) != len(counts):
        many_symbols, many_counts = first_counts > 6, row > first_counts + 1
        raise ValueError(
            f"{f'lines 6 to {first_counts} name' if many_symbols else 'line 6 names'} {len(symbols)} elements, "
            f"{f'lines {first_counts + 1} to {row} have' if many_counts else f'line {row} has'} "
            f"{len(counts)} numbers of atoms"
        )
    return _Species(symbols, counts, row)


def _symbol_behind(words: list[str], is_selective: bool) -> str | None:
    """Find the element symbol among the words behind a position, or None.

    Three flags T or F, before or after the symbol, belong to selective dynamics. Fluorine is F where it stands alone or
    beside three flags; T is never tritium.
    """
    flags = [_FLAG.fullmatch(word) is not None for word in words[:4]]
    if all(flags) and len(flags) == 4:
        rest = [word for word in (words[0], words[3]) if word == "F"]
    elif all(flags) and (len(flags) > 1 or is_selective):
        rest = []
    elif len(flags) >= 3 and all(flags[:3]):
        rest = words[3:]
    else:
        rest = words
    if not rest or rest[0] == "T" or not _is_symbol(rest[0]):
        return None
    return rest[0]


def _elements(species: _Species, symbols_behind: Sequence[str | None], comment: str) -> list[int]:
    """Return the atomic numbers; all places that name elements must agree."""
    named: dict[str, list[int]] = {}
    if species.symbols:
        named["line 6"] = _expand([_element(symbol) for symbol in species.symbols], species.counts)
    if symbols_behind and None not in symbols_behind:
        named["the words after the positions"] = [_element(symbol) for symbol in symbols_behind if symbol]
    if not species.symbols:
        elements = _comment_elements(comment, species.counts)
        if elements is not None:
            named["the comment line"] = _expand(elements, species.counts)
    if not named:
        raise ValueError(
            "no element symbols: expected them in line 6, above the numbers of atoms, or after each position"
        )
    (first_place, numbers), *others = named.items()
    for place, other in others:
        for atom, (z, other_z) in enumerate(zip(numbers, other, strict=True), start=1):
            if z != other_z:
                raise ValueError(
                    f"atom {atom} is {SYMBOLS[z]} by {first_place}, but {SYMBOLS[other_z]} by {place}: which is right?"
                )
    start = 0
    for count in species.counts:
        if len(set(numbers[start : start + count])) > 1:
            raise ValueError(
                f"atoms {start + 1} to {start + count} belong to one number of atoms, but {first_place} name "
                "different elements"
            )
        start += count
    return numbers


def _comment_elements(comment: str, counts: Sequence[int]) -> list[int] | None:
    """Return the elements of a comment that consists of symbols alone, one for each number of atoms, or None.

    Numbers as in "Mg4 O4", which pymatgen writes, must be those of the atoms or a multiple of them.
    """
    words = _uncommented(comment).split()
    if len(words) != len(counts) or not all(map(_is_symbol, words)):
        return None
    amounts = [match.group(2) for match in map(_SYMBOL.fullmatch, words) if match]
    if any(amounts):
        ratios = {(count, int(amount or 1)) for count, amount in zip(counts, amounts, strict=True)}
        first_count, first_amount = next(iter(ratios))
        if not all(count * first_amount == amount * first_count for count, amount in ratios):
            return None
    return [_element(word) for word in words]


def _expand(elements: Sequence[int], counts: Sequence[int]) -> list[int]:
    return [z for z, count in zip(elements, counts, strict=True) for _ in range(count)]


def _element(word: str) -> int:
    match = _SYMBOL.fullmatch(word)
    if match is None:
        raise ValueError(f"{word!r} is not the symbol of an element")
    return atomic_number(match.group(1))


def _is_symbol(word: str) -> bool:
    try:
        _element(word)
    except ValueError:
        return False
    return True


def _check_end(lines: list[str], row: int, total: int) -> None:
    """Check that what follows the positions is not another atom or structure.

    Velocities come after a blank line or a line with their mode.
    """
    if row < len(lines) and _NUMERIC.match(_uncommented(lines[row]).strip()):
        raise ValueError(
            f"line {row + 1}: expected no more than {total} positions, as the numbers of atoms say, "
            f"got {lines[row].strip()!r}"
        )
    rest = "\n".join(lines[row:])
    atom = _ATOM_WITH_WORDS.search(rest)
    if atom is not None:
        line = row + rest.count("\n", 0, atom.start())
        raise ValueError(
            f"line {line + 1}: looks like an atom after the {total} positions, got {lines[line].strip()!r}"
        )
    for second in _SECOND_STRUCTURE.finditer(rest):
        if all(map(_is_symbol, _uncommented(second.group(1)).split())):
            line = row + rest.count("\n", 0, second.start())
            raise ValueError(f"line {line + 1}: a second structure begins; a POSCAR holds one")


def _uncommented(line: str) -> str:
    return re.split("[!#]", line, maxsplit=1)[0]


def _line(lines: list[str], row: int, meaning: str) -> str:
    if row >= len(lines):
        raise ValueError(f"expected {meaning} in line {row + 1}, the file is truncated after line {len(lines)}")
    return lines[row]


def _words(lines: list[str], row: int, meaning: str) -> list[str]:
    """Return the words of a line, which has one at least."""
    words = _uncommented(_line(lines, row, meaning)).split()
    if not words:
        raise ValueError(f"line {row + 1}: expected {meaning}, got an empty line")
    return words


def _numbers(lines: list[str], row: int, counts: tuple[int, ...], meaning: str) -> list[float]:
    """Read a line of as many numbers as one of `counts`; a remark may follow."""
    words = _uncommented(_line(lines, row, meaning)).split()
    numbers, behind = _leading_numbers(words)
    if len(numbers) not in counts or (behind and _NUMERIC.match(behind[0])):
        raise ValueError(f"line {row + 1}: expected {meaning}, got {lines[row].strip()!r}")
    return numbers


def _position(lines: list[str], row: int) -> tuple[list[float], list[str]]:
    """Read the coordinates of an atom and the words after them; more numbers may follow the coordinates."""
    numbers, behind = _leading_numbers(_uncommented(_line(lines, row, "a position")).split())
    if len(numbers) < 3:
        raise ValueError(f"line {row + 1}: expected a position, got {lines[row].strip()!r}")
    return numbers[:3], behind if len(numbers) == 3 else []


def _leading_numbers(words: list[str]) -> tuple[list[float], list[str]]:
    numbers: list[float] = []
    for word in words:
        number = parse_number(word)
        if number is None:
            break
        numbers.append(number)
    return numbers, words[len(numbers) :]

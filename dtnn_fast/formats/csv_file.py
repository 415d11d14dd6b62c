# SPDX-License-Identifier: MIT
"""Read CSV files with a column of structures, as CIF texts or as JSON (as of pymatgen and matbench)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Literal

from ..crystals.crystal import Crystal, Rejected
from ..errors import BadFileError
from .cif import read_cif
from .compressed import open_file
from .csv_rows import csv_rows, id_column
from .file_ids import default_id
from .json_file import parse_document
from .json_structures import STRUCTURE_KEYS, read_document, structure_of
from .scalars import parse_scalar, scalars_of
from .text_files import TextFile

_CIF_CELL = re.compile(r"^\s*_cell[_.]length_a\s", re.MULTILINE | re.IGNORECASE)
# Rows that are looked at to find the column of structures: single cells may be empty.
_FIRST_ROWS = 20


def read_csv(path: Path, text: str) -> Iterator[Crystal | Rejected]:
    """Read the structures of a CSV file; other columns go to `Crystal.info`, numbers as numbers.

    The column of structures is found by its cells: CIF texts, or JSON as in JSON files. Where several columns have
    structures, the name decides (``structure`` before ``initial_structure``). Ids are those of a column such as
    ``material_id``, ``MaterialId`` or ``id``, else the name of the file with the number of the row from 1.

    Raises:
        BadFileError: there is no column of structures, a quote is not closed, or a cell is too long.
    """
    return stream_csv(path, [text])


def stream_csv(path: Path, chunks: Iterable[str]) -> Iterator[Crystal | Rejected]:
    """Read a large file as `read_csv` does, with one row in memory.

    Args:
        path: the file, for names and messages.
        chunks: its text in parts.
    """
    rows = csv_rows(path, chunks)
    _, header = next(rows, (0, []))
    first = list(islice(rows, _FIRST_ROWS))
    column = _structure_column(header, [row for _, row in first])
    if column is None:
        raise BadFileError(
            f"{path}: no column of structures (CIF texts or JSON), got the columns {', '.join(header)[:200]}; a "
            "table of properties needs a column of ids and is given beside the files of its crystals"
        )
    ids = id_column(header)
    stem = default_id(path)
    for number, (line, row) in enumerate(chain(first, rows), start=1):
        source = f"{path} (row {number})"
        name = row[ids].strip() if ids is not None and ids < len(row) else ""
        name = name or f"{stem}:{number}"
        if len(row) != len(header):
            reason = f"expected {len(header)} cells in the row that ends on line {line}, got {len(row)}"
            yield Rejected(name, source, reason)
            continue
        cells = {
            title: parse_scalar(cell)
            for place, (title, cell) in enumerate(zip(header, row, strict=True))
            if title and place not in (column, ids)
        }
        for item in _read_cell(row[column], name, source):
            yield replace(item, info=scalars_of(cells) | item.info) if isinstance(item, Crystal) else item


def csv_content(path: Path) -> Literal["structures", "properties", "other"]:
    """Return whether a CSV file has a column of structures, else one of ids, which makes it a table of properties.

    Rankings and lists of rejected crystals, which dtnn-fast writes, count as other tables.

    Args:
        path: the file.

    Raises:
        BadFileError: it cannot be read as CSV.
    """
    with open_file(path) as file:
        rows = [row for _, row in islice(csv_rows(path, TextFile(path, file).chunks()), 1 + _FIRST_ROWS)]
    header, *rows = rows or [[]]
    if _structure_column(header, rows) is not None:
        return "structures"
    is_ours = header[:2] == ["rank", "id"] or header == ["id", "source", "reason"]
    return "other" if is_ours or id_column(header) is None else "properties"


def _structure_column(header: Sequence[str], rows: Sequence[Sequence[str]]) -> int | None:
    """Return the number of the column that holds structures in the first rows, or None."""
    found = [place for place in range(len(header)) if any(_is_structure(row[place : place + 1]) for row in rows)]
    names = {name: rank for rank, name in enumerate(STRUCTURE_KEYS)}
    return min(found, key=lambda place: names.get(header[place], len(names) - 2), default=None)


def _is_structure(cells: Sequence[str]) -> bool:
    for cell in cells:
        if cell.lstrip().startswith("{"):
            try:
                return structure_of(parse_document(cell)) is not None
            except (ValueError, RecursionError):
                return False
        return _CIF_CELL.search(cell) is not None
    return False


def _read_cell(cell: str, name: str, source: str) -> Iterator[Crystal | Rejected]:
    if not cell.strip():
        yield Rejected(name, source, "no structure is given")
        return
    if cell.lstrip().startswith("{"):
        try:
            document = parse_document(cell)
        except (ValueError, RecursionError) as error:
            yield Rejected(name, source, f"not valid JSON: {error}")
            return
        item = read_document(document, name, source)
        # The id of the row counts, not one inside of the document.
        yield replace(item, id=name)
        return
    place = Path(f"{name.replace('/', '_')}.cif")
    try:
        items = list(read_cif(place, cell))
    except BadFileError as error:
        yield replace(Rejected.from_error(error, name, str(place)), source=source)
        return
    for number, item in enumerate(items, start=1):
        yield replace(item, id=name if len(items) == 1 else f"{name}:{number}", source=source)

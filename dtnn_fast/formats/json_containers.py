# SPDX-License-Identifier: MIT
"""Containers of structures in JSON: lists, dicts by id, responses of databases, and tables of pandas."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from ..errors import BadFileError
from .json_structures import STRUCTURE_KEYS, structure_of

# Keys under which programs and databases put the list: pymatgen's and Alexandria's entries, the responses of the
# Materials Project and of OPTIMADE.
LIST_KEYS = ("entries", "data", "response", "results", "structures", "documents", "docs")
_MAX_DEPTH = 4


def documents_in(value: Any, stem: str) -> list[tuple[str, Any]]:
    """List the documents in a JSON value.

    Args:
        value: a document, or a container: a list of documents, a dict of them by id, ``{"entries": [...]}``,
            ``{"data": [...]}``, a table of pandas (orient split, columns, records, index, values or table), or the
            JSON database of ASE.
        stem: the id of the file.

    Returns:
        Pairs of id and document. Ids are the keys of the container, else the stem with a number from 1, or with the
        number in the container. A document that stands alone has the stem.

    Raises:
        ValueError: a table has columns, an index and rows that do not fit.
    """
    return [(name, document) for name, document, _ in named(documents_of_value(value), stem)]


def named(documents: Iterable[tuple[str | None, Any]], stem: str) -> Iterator[tuple[str, Any, bool]]:
    """Name documents as `documents_in` says.

    Args:
        documents: pairs of key or None, and document.
        stem: the id of the file.

    Returns:
        Id, document, and whether it is the only one.
    """
    rest = iter(documents)
    first = list(islice(rest, 1))
    second: list[tuple[str | None, Any]] = []
    error = None
    try:
        second = list(islice(rest, 1))
    except BadFileError as caught:  # the first one comes before what is wrong with the file
        error = caught
    is_only = not second and error is None
    for number, (label, document) in enumerate(chain(first, second, rest), start=1):
        if label is None or label.isdecimal():
            yield stem if is_only else f"{stem}:{label or number}", document, is_only
        else:
            yield label, document, is_only
        if error is not None:
            raise error


def documents_of_value(value: Any, label: str | None = None) -> Iterator[tuple[str | None, Any]]:
    """Yield (key or None, document) of a document or a container, which has the key `label` itself."""
    if structure_of(value) is not None or not _holds_structure(value):
        yield label, value
    elif isinstance(value, list):
        for entry in value:
            yield from documents_of_entry(entry)
    else:
        yield from _documents_by_key(value)


def _documents_by_key(value: Mapping[str, Any]) -> Iterator[tuple[str | None, Any]]:
    """Yield the documents of an object that is no document itself: a table, a database, a response, or a dict by id."""
    if isinstance(value.get("columns"), list) and isinstance(value.get("data"), list):
        yield from _rows_of_split_table(value)
    elif isinstance(value.get("ids"), list) and all(str(row) in value for row in value["ids"]):
        # The JSON database of ASE.
        yield from ((str(row), value[str(row)]) for row in value["ids"])
    elif any(_holds_structure(value.get(key)) for key in LIST_KEYS):
        for key in LIST_KEYS:
            if _holds_structure(value.get(key)):
                yield from documents_of_value(value[key])
    elif _is_table_by_columns(value):
        for row in next(iter(value.values())):
            yield row, row_document({column: cells[row] for column, cells in value.items()})
    else:
        for key, entry in value.items():
            if not key.startswith("@"):  # @module, @class and @version of pymatgen
                yield from documents_of_value(entry, key)


def documents_of_entry(entry: Any) -> Iterator[tuple[str | None, Any]]:
    """Yield the documents of an entry of a list: a document, a row of a table without names, or a container."""
    cells = [cell for cell in entry if structure_of(cell) is not None] if isinstance(entry, list) else []
    if len(cells) == 1:
        yield None, cells[0]
    elif isinstance(entry, Mapping) and structure_of(entry) is None:
        yield from documents_of_value(entry)
    else:
        yield None, entry


def _holds_structure(value: Any, depth: int = 0) -> bool:
    if depth > _MAX_DEPTH:
        return False
    if structure_of(value) is not None:
        return True
    inner: Sequence[Any] = list(value.values()) if isinstance(value, Mapping) else value
    return isinstance(inner, list) and any(
        _holds_structure(entry, depth + 1) for entry in inner if isinstance(entry, list | Mapping)
    )


def _rows_of_split_table(table: Mapping[str, Any]) -> Iterator[tuple[str | None, Any]]:
    columns, rows = [str(column) for column in table["columns"]], table["data"]
    index = table.get("index", [None] * len(rows))
    if not isinstance(index, list) or len(index) != len(rows):
        raise ValueError(f"its index and its data have different lengths: {len(rows)} rows")
    for label, cells in zip(index, rows, strict=True):
        yield split_row(columns, cells, label)


def split_row(columns: Sequence[str], cells: Any, label: Any) -> tuple[str | None, Any]:
    """Return key and document of a row of a table.

    Args:
        columns: their names.
        cells: the values of the row.
        label: of the row, or None.

    Raises:
        ValueError: the row has another number of cells.
    """
    if not isinstance(cells, list) or len(cells) != len(columns):
        raise ValueError(f"expected rows of {len(columns)} columns, got {str(cells)[:60]!r}")
    return None if label is None else str(label), row_document(dict(zip(map(str, columns), cells, strict=True)))


def _is_table_by_columns(value: Mapping[str, Any]) -> bool:
    """Return whether it is ``{column: {row: cell}}``; a dict of dicts by id has documents or other keys inside."""
    columns = list(value.values())
    if not all(isinstance(column, Mapping) and structure_of(column) is None for column in columns):
        return False
    same_rows = all(column.keys() == columns[0].keys() for column in columns)
    holding = [
        name for name, column in value.items() if any(structure_of(cell) is not None for cell in column.values())
    ]
    return same_rows and (len(holding) == 1 or any(name in STRUCTURE_KEYS for name in holding))


def row_document(cells: dict[str, Any]) -> dict[str, Any]:
    """Return a row of a table (cells by column) as a document, with its structure under a known key."""
    if structure_of(cells) is None:
        structures = [cell for cell in cells.values() if structure_of(cell) is not None]
        if len(structures) == 1:
            return {**cells, "structure": structures[0]}
    return cells

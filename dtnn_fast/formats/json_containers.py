# SPDX-License-Identifier: MIT
"""Containers of structures in JSON: lists, dicts by id, responses of databases, and tables of pandas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .json_structures import STRUCTURE_KEYS, structure_of

# Keys under which programs and databases put the list: pymatgen's and Alexandria's entries, the responses of the
# Materials Project and of OPTIMADE.
_LIST_KEYS = ("entries", "data", "response", "results", "structures", "documents", "docs")
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
    found = list(_documents(value))
    names = []
    for number, (label, _) in enumerate(found, start=1):
        is_number = label is None or label.isdecimal()
        if is_number and len(found) == 1:
            names.append(stem)
        elif is_number:
            names.append(f"{stem}:{label or number}")
        else:
            names.append(str(label))
    return [(name, document) for name, (_, document) in zip(names, found, strict=True)]


def _documents(value: Any, label: str | None = None) -> Iterator[tuple[str | None, Any]]:
    """Yield (key or None, document)."""
    if structure_of(value) is not None or not _holds_structure(value):
        yield label, value
    elif isinstance(value, list):
        for entry in value:
            yield from _documents_of_entry(entry)
    else:
        yield from _documents_by_key(value)


def _documents_by_key(value: Mapping[str, Any]) -> Iterator[tuple[str | None, Any]]:
    """Yield the documents of an object that is no document itself: a table, a database, a response, or a dict by id."""
    if isinstance(value.get("columns"), list) and isinstance(value.get("data"), list):
        yield from _rows_of_split_table(value)
    elif isinstance(value.get("ids"), list) and all(str(row) in value for row in value["ids"]):
        # The JSON database of ASE.
        yield from ((str(row), value[str(row)]) for row in value["ids"])
    elif any(_holds_structure(value.get(key)) for key in _LIST_KEYS):
        for key in _LIST_KEYS:
            if _holds_structure(value.get(key)):
                yield from _documents(value[key])
    elif _is_table_by_columns(value):
        for row in next(iter(value.values())):
            yield row, _row({column: cells[row] for column, cells in value.items()})
    else:
        for key, entry in value.items():
            if not key.startswith("@"):  # @module, @class and @version of pymatgen
                yield from _documents(entry, key)


def _documents_of_entry(entry: Any) -> Iterator[tuple[str | None, Any]]:
    """Yield the documents of an entry of a list: a document, a row of a table without names, or a container."""
    cells = [cell for cell in entry if structure_of(cell) is not None] if isinstance(entry, list) else []
    if len(cells) == 1:
        yield None, cells[0]
    elif isinstance(entry, Mapping) and structure_of(entry) is None:
        yield from _documents(entry)
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
        if not isinstance(cells, list) or len(cells) != len(columns):
            raise ValueError(f"expected rows of {len(columns)} columns, got {str(cells)[:60]!r}")
        yield None if label is None else str(label), _row(dict(zip(columns, cells, strict=True)))


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


def _row(cells: dict[str, Any]) -> dict[str, Any]:
    """Return a row as a document: its structure is under a known key, whatever the column is called."""
    if structure_of(cells) is None:
        structures = [cell for cell in cells.values() if structure_of(cell) is not None]
        if len(structures) == 1:
            return {**cells, "structure": structures[0]}
    return cells

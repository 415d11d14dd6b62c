# SPDX-License-Identifier: MIT
"""Read large JSON files entry by entry: lists, dicts by id, responses of databases, and tables of pandas."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..crystals.crystal import Crystal, Rejected
from ..errors import BadFileError
from .file_ids import default_id
from .json_containers import LIST_KEYS, documents_of_entry, documents_of_value, named, row_document, split_row
from .json_file import NO_STRUCTURE
from .json_structures import FORM_KEYS, STRUCTURE_KEYS, read_document, structure_of
from .json_tokens import JsonTokens

# Beside the rows of an ASE database.
_ASE_KEYS = ("ids", "nextid")


def stream_json(path: Path, chunks: Iterable[str]) -> Iterator[Crystal | Rejected]:
    """Read a large JSON file as `json_file.read_json` does, with one entry in memory.

    Data before the entries is kept in memory, for example the columns of numbers of a table.

    Args:
        path: the file, for names and messages.
        chunks: its text in parts.

    Raises:
        BadFileError: the text is not valid JSON or is truncated, behind what could be read; it has no structure; or a
            table has columns after the structures, which can no longer be joined to them.
    """
    tokens = JsonTokens(path, chunks)
    has_structure = False
    for name, document, is_only in named(_documents(tokens), default_id(path)):
        has_structure = has_structure or structure_of(document) is not None
        yield read_document(document, name, str(path) if is_only else f"{path} ({name})")
    tokens.finish()
    if not has_structure:
        raise BadFileError(f"{path}: {NO_STRUCTURE}")


def _documents(tokens: JsonTokens) -> Iterator[tuple[str | None, Any]]:
    """Yield (key or None, document) of a whole text."""
    first = tokens.peek()
    if first == "[":
        for _ in tokens.elements():
            yield from documents_of_entry(tokens.value())
    elif first == "{":
        yield from _documents_of_object(tokens)
    else:
        yield from documents_of_value(tokens.value())


def _documents_of_object(tokens: JsonTokens) -> Iterator[tuple[str | None, Any]]:
    """Yield the documents of an object, which is a container, or a document itself."""
    # What is no entry: the head of a response, columns of a table, or the parts of a single document.
    head: dict[str, Any] = {}
    behind: dict[str, Any] = {}
    first_labels: set[str] = set()
    is_document = by_id = has_entries = False
    for key in tokens.members():
        is_document = is_document or key in FORM_KEYS or (key in STRUCTURE_KEYS and not _holds_entries(tokens, key))
        if not is_document and _holds_entries(tokens, key):
            has_entries = True
            yield from _entries(tokens, head, first_labels)
            continue
        value = tokens.value()
        if has_entries:
            behind[key] = value
        elif is_document:
            head[key] = value
        elif key in LIST_KEYS and structure_of(value) is not None:
            has_entries = True
            yield from documents_of_value(value)
        elif by_id or structure_of(value) is not None:
            waiting = {} if by_id else head
            by_id, head = True, {}
            for name, entry in {**waiting, key: value}.items():
                if not name.startswith("@") and name not in _ASE_KEYS:
                    yield from documents_of_value(entry, name)
        else:
            head[key] = value
    left_out = [key for key, cells in behind.items() if isinstance(cells, Mapping) and first_labels & cells.keys()]
    if left_out:
        raise tokens.refusal(
            f"the columns {', '.join(left_out)} come after the structures in a file too large to read whole, and are "
            "left out: write the table as JSON lines"
        )
    if is_document or not (by_id or has_entries):
        yield from documents_of_value(head)


def _holds_entries(tokens: JsonTokens, key: str) -> bool:
    """Return whether the next value is a list or an object of documents, which is read entry by entry."""
    symbol = tokens.peek()
    if symbol not in "[{" or not symbol:
        return False
    tokens.mark()
    try:
        if symbol == "[":
            for _ in tokens.elements():
                if key in LIST_KEYS:
                    return tokens.peek() in "{["
                return any(structure_of(entry) is not None for _, entry in documents_of_entry(tokens.value()))
            return False
        for inner in tokens.members():
            # The first member of a document is rarely an object, and then under a known key.
            return tokens.peek() == "{" and inner not in STRUCTURE_KEYS and structure_of(tokens.value()) is not None
        return False
    finally:
        tokens.go_back()


def _entries(tokens: JsonTokens, head: Mapping[str, Any], first_labels: set[str]) -> Iterator[tuple[str | None, Any]]:
    """Yield the documents of a list or object of documents, with what a table has in its other columns.

    Args:
        tokens: at the list or object.
        head: the data before it.
        first_labels: the first labels of such objects so far, to notice a second column of structures of a table.
    """
    if tokens.peek() == "[":
        columns, index = head.get("columns"), head.get("index")
        for number, _ in enumerate(tokens.elements()):
            entry = tokens.value()
            if isinstance(columns, list) and isinstance(entry, list):
                yield split_row(
                    columns, entry, index[number] if isinstance(index, list) and number < len(index) else None
                )
            else:
                yield from documents_of_entry(entry)
        return
    table = {column: cells for column, cells in head.items() if isinstance(cells, Mapping)}
    for number, label in enumerate(tokens.members()):
        if number == 0 and label in first_labels:
            raise tokens.refusal("several columns of structures, in a file too large to read whole: use JSON lines")
        if number == 0:
            first_labels.add(label)
        value = tokens.value()
        beside = {column: cells[label] for column, cells in table.items() if label in cells}
        yield label, row_document({**beside, "structure": value}) if beside else value

# SPDX-License-Identifier: MIT
"""Rows of CSV files, whose cells may hold whole CIF texts with line breaks."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ..errors import BadFileError
from .text_files import lines_of

# Names of columns that hold the id, without regard to case and to what is no letter: MaterialId, material_id, mp-id.
_ID_COLUMNS = (
    *("materialid", "materialsid", "mpid", "immutableid", "entryid", "matid", "structureid", "jid", "cifid", "id"),
    *("identifier", "taskid", "filename", "name"),
)
_SEPARATORS = ",;\t"
# The limit of Python's library, 131,072 characters, is less than the CIF of a large cell.
_LARGEST_CELL = 1 << 26


def csv_rows(path: Path, chunks: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a CSV file, the header first, without blank rows and lines with "#" in front of the header.

    The separator is a comma, a semicolon or a tab, whichever is most frequent in the header.

    Args:
        path: the file, for messages.
        chunks: its text in parts.

    Returns:
        The line on which the row ends, from 1, and its cells, as many as the header has, or else as they are.

    Raises:
        BadFileError: a cell is too long, or a quote is not closed.
    """
    lines = (line for line, _ in lines_of(path, chunks))
    number = 0
    header = ""
    for header in lines:
        number += 1
        if header.strip() and not header.startswith("#"):
            break
    else:
        return
    separator = max(_SEPARATORS, key=header.count)
    # Set at each call, because it belongs to the whole process.
    csv.field_size_limit(max(csv.field_size_limit(), _LARGEST_CELL))

    def with_ends() -> Iterator[str]:
        yield header + "\n"
        for line in lines:
            yield line + "\n"

    reader = csv.reader(with_ends(), delimiter=separator, strict=True)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield number + reader.line_num - 1, row
    except csv.Error as error:
        line = number + reader.line_num - 1
        raise BadFileError(f"{path}: not a CSV file, or truncated: line {line}: {error}") from error


def id_column(header: Sequence[str]) -> int | None:
    """Return the number of the column that holds the id, from 0, or None.

    Args:
        header: names of the columns.
    """
    names = [re.sub(r"[^a-z]", "", name.lower()) for name in header]
    return next((names.index(known) for known in _ID_COLUMNS if known in names), None)

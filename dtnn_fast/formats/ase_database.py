# SPDX-License-Identifier: MIT
"""Read databases of ASE in SQLite files (.db), row by row."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..crystals.crystal import Crystal, Rejected
from ..errors import BadFileError, optional_import
from .compressed import COMPRESSED_ENDING, open_file
from .file_ids import default_id
from .json_structures import read_document
from .read_position import track

_MAGIC = b"SQLite format 3\x00"
# Scalars of a row beside its key-value pairs; others describe the calculation.
_PROPERTIES = ("energy", "free_energy", "calculator", "unique_id")


def read_ase_database(path: Path, text: str = "") -> Iterator[Crystal | Rejected]:
    """Read the rows of an ASE database, in the order of their numbers; key-value pairs go to `Crystal.info`.

    Ids are those of the key-value pairs (material_id, ...), else the name of the file with the number of the row.

    Args:
        path: the file.
        text: not used: the file is not text.

    Raises:
        BadFileError: the file is missing, damaged, or not a database of ASE.
        MissingPackageError: ASE is not installed.
    """
    if COMPRESSED_ENDING.search(path.name):
        raise BadFileError(f"{path}: a compressed database cannot be searched: unpack the {path.suffix} first")
    ase_db = optional_import("ase.db", extra="io", purpose="read databases of ASE")
    try:
        if not is_ase_database(path):  # ASE would create its tables in it
            raise BadFileError(f"{path}: not a SQLite database with ASE's table of systems")
        database = ase_db.connect(path, type="db", use_lock_file=False)
        rows = database.select(include_data=False)
        stem = default_id(path)
        num_bytes, num_rows, done = path.stat().st_size, max(1, len(database)), 0
        track(path, lambda: num_bytes * done / num_rows)
        while True:
            row = next(rows, None)
            if row is None:
                return
            done += 1
            yield read_document(_document(row), f"{stem}:{row.id}", f"{path} (row {row.id})")
    except BadFileError:
        raise
    except (sqlite3.Error, OSError, ValueError, KeyError, TypeError) as error:
        raise BadFileError(f"{path}: not a database of ASE, or damaged: {error}") from error


def is_ase_database(path: Path) -> bool:
    """Return whether a file is a SQLite database with ASE's table of systems, or damaged behind its first bytes.

    Args:
        path: the file.

    Raises:
        BadFileError: the file cannot be read.
    """
    with open_file(path) as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            return False
    with closing(sqlite3.connect(f"file:{quote(os.fsencode(path.absolute()))}?mode=ro", uri=True)) as connection:
        try:
            found = connection.execute("SELECT COUNT(*) FROM sqlite_master WHERE name='systems'").fetchone()
        except (sqlite3.Error, ValueError):
            return True
    return bool(found[0])


def _document(row: Any) -> dict[str, Any]:
    """Return a row as ASE writes it in JSON."""
    known = {name: row.get(name) for name in _PROPERTIES}
    return {
        "numbers": row.numbers,
        "positions": row.positions,
        "cell": row.cell,
        "pbc": row.pbc,
        "key_value_pairs": row.key_value_pairs,
        **{name: value for name, value in known.items() if value is not None},
    }

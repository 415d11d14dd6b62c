# SPDX-License-Identifier: MIT
"""Labelled crystals of matminer's data set dielectric_constant (I. Petousis et al., 2017).

matminer downloads one JSON file, which is read here as it is: neither matminer nor pandas is needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...crystals.crystal import Crystal
from ...errors import BadFileError
from ...files import OnProgress, download, sha256_of
from ...formats.reading import read_text
from .source import Dropped, Fetched, Tensors, Why, labelled_crystal

# Address and checksum as in matminer 0.10.1, matminer/datasets/dataset_metadata.json.
URL = "https://ndownloader.figshare.com/files/13213475"
SHA256 = "8eb24812148732786cd7c657eccfc6b5ee66533429c2cfbcc4f0059c0295e8b6"
FILE_NAME = "dielectric_constant.json.gz"
_SOURCE = "matminer dielectric_constant"
_COLUMNS = ("material_id", "structure", "e_electronic", "e_total")


def fetch_matminer(
    folder: Path, file: Path | None = None, limit: int | None = None, on_progress: OnProgress | None = None
) -> Fetched:
    """Download matminer's file, or read one that is there.

    Args:
        folder: where the download is kept; a file that is there already is used.
        file: a copy of the file, .json or .json.gz, instead of a download.
        limit: at most so many rows, or None for all.
        on_progress: see `OnProgress`; it counts bytes.

    Returns:
        The crystals with tensors in the frame of the cell.

    Raises:
        FetchError: the download failed.
        BadFileError: the file is damaged, or of another kind.
    """
    record: dict[str, Any] = {"url": URL} if file is None else {"file": file.name}
    path = download(URL, folder / FILE_NAME, SHA256, on_progress) if file is None else file
    rows = _table(path)[:limit]
    checksum = sha256_of(path)
    record |= {"sha256": checksum, "database_version": f"SHA-256 {checksum[:12]}"}
    record |= {"query": {"limit": limit}, "rows": len(rows)}
    return Fetched((_row(number, row) for number, row in enumerate(rows)), record)


def _table(path: Path) -> list[dict[str, Any]]:
    """The rows of a table in pandas' orientation "split": columns, and data row by row."""
    try:
        table = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, BadFileError):
            raise
        raise BadFileError(f"{path}: not valid JSON: {error}") from error
    columns = table.get("columns") if isinstance(table, Mapping) else None
    data = table.get("data") if isinstance(table, Mapping) else None
    if (
        not isinstance(columns, list)
        or not all(isinstance(name, str) for name in columns)
        or not isinstance(data, list)
    ):
        raise BadFileError(f'{path}: not a table of matminer: expected an object with "columns" and "data"')
    missing = [name for name in _COLUMNS if name not in columns]
    if missing:
        raise BadFileError(
            f"{path}: not matminer's data set dielectric_constant: it has no column {', '.join(missing)}"
        )
    return [
        dict(zip(columns, row, strict=True)) if isinstance(row, list) and len(row) == len(columns) else {}
        for row in data
    ]


def _row(number: int, row: Mapping[str, Any]) -> Crystal | Dropped:
    if not row:
        return Dropped.of(Why.ROW, f"row {number}", _SOURCE, "it has not as many values as the table has columns")
    info = {"formula": row.get("formula"), "band_gap_ev": row.get("band_gap")}
    tensors = Tensors(electronic=row["e_electronic"], total=row["e_total"])
    return labelled_crystal(str(row["material_id"]), _SOURCE, row["structure"], tensors, info)

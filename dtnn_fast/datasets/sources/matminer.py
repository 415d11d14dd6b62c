# SPDX-License-Identifier: MIT
"""Labelled crystals of matminer's data set dielectric_constant (I. Petousis et al., 2017).

The JSON file that matminer downloads is read directly: neither matminer nor pandas is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...crystals.crystal import Crystal
from ...errors import BadFileError
from ...files import OnProgress, download, parse_json, sha256_of
from ...formats.text_files import read_text
from .source import (
    DataSource,
    DroppedRow,
    DropReason,
    PublishedTensors,
    SourceRows,
    TensorFrame,
    labelled_crystal,
)

MATMINER = DataSource(
    "matminer",
    "matminer's data set dielectric_constant",
    TensorFrame.cell,
    "CC BY 4.0",
    (
        "I. Petousis et al., Scientific Data 4, 160134 (2017), https://doi.org/10.1038/sdata.2016.134",
        "L. Ward et al., Computational Materials Science 152, 60 (2018), https://doi.org/10.1016/j.commatsci.2018.05.018",
    ),
)
# URL and checksum as in matminer 0.10.1, matminer/datasets/dataset_metadata.json.
URL = "https://ndownloader.figshare.com/files/13213475"
SHA256 = "8eb24812148732786cd7c657eccfc6b5ee66533429c2cfbcc4f0059c0295e8b6"
FILE_NAME = "dielectric_constant.json.gz"
_SOURCE = "matminer dielectric_constant"
_COLUMNS = ("material_id", "structure", "e_electronic", "e_total")


def fetch_matminer(
    folder: Path, file: Path | None = None, limit: int | None = None, on_progress: OnProgress | None = None
) -> SourceRows:
    """Download matminer's file, or read a local copy.

    Args:
        folder: folder that keeps the download; an existing file is used again.
        file: a copy of the file to read instead of a download, .json or .json.gz.
        limit: maximum number of rows, or None for all.
        on_progress: see `files.OnProgress`; it counts bytes.

    Returns:
        The crystals with tensors in the frame of the cell.

    Raises:
        FetchError: the download failed.
        BadFileError: the file is damaged, or of another format.
    """
    provenance: dict[str, Any] = {"url": URL} if file is None else {"file": file.name}
    path = download(URL, folder / FILE_NAME, SHA256, on_progress) if file is None else file
    rows = _read_table(path)[:limit]
    checksum = sha256_of(path)
    provenance |= {"sha256": checksum, "database_version": f"SHA-256 {checksum[:12]}"}
    provenance |= {"query": {"limit": limit}, "rows": len(rows)}
    return SourceRows((_read_row(number, row) for number, row in enumerate(rows)), provenance)


def _read_table(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a table in pandas' orientation "split": columns, and data row by row."""
    try:
        table = parse_json(read_text(path))
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


def _read_row(number: int, row: Mapping[str, Any]) -> Crystal | DroppedRow:
    if not row:
        return DroppedRow.make(
            DropReason.UNREADABLE_ROW, f"row {number}", _SOURCE, "its number of values is not the number of columns"
        )
    info = {"formula": row.get("formula"), "band_gap_ev": row.get("band_gap")}
    tensors = PublishedTensors(electronic=row["e_electronic"], total=row["e_total"])
    return labelled_crystal(str(row["material_id"]), _SOURCE, row["structure"], tensors, info)

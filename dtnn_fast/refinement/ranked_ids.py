# SPDX-License-Identifier: MIT
"""The best crystals of a screening, by the ranking.csv that it wrote."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..crystals.crystal import Crystal, Rejected
from ..errors import BadFileError, optional_import
from ..formats.json_structures import read_document


class Ranked(NamedTuple):
    """A crystal of a ranking.

    Args:
        id: its id.
        formula: its formula; empty where the ranking has none.
    """

    id: str
    formula: str = ""


def read_best(path: Path, count: int) -> list[Ranked]:
    """Read the crystals of the first ranks.

    Args:
        path: ranking.csv of a screening, or the screening's folder.
        count: number of crystals, at most.

    Raises:
        BadFileError: the file is missing, is no ranking, lists no crystal, or lacks an id.
    """
    file = path / "ranking.csv" if path.is_dir() else path
    if not file.exists():
        raise BadFileError(f"{file}: missing: expected the folder of a finished dtnn-fast screen, or its ranking.csv")
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:  # spreadsheets write a byte order mark
            rows = csv.DictReader(lines)
            if rows.fieldnames is None or not {"rank", "id"} <= set(rows.fieldnames):
                raise BadFileError(f"{file}: expected ranking.csv of dtnn-fast screen, with the columns rank and id")
            best = []
            for row in itertools.islice(rows, count):
                if not row["id"]:
                    raise BadFileError(f"{file}: line {rows.line_num} has no id")
                best.append(Ranked(row["id"], row.get("formula") or ""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadFileError(f"{file}: cannot be read: {error}") from error
    if not best:
        raise BadFileError(f"{file}: the ranking lists no crystal")
    return best


def read_screened(folder: Path, ranked: Sequence[Ranked]) -> Iterator[Crystal | Rejected]:
    """Read the structures of ranked crystals from the parts of their screening, in the order of the parts.

    Args:
        folder: of ``dtnn-fast screen``.
        ranked: of `read_best`.

    Raises:
        BadFileError: the folder has no parts, or they cannot be read.
        MissingPackageError: pyarrow is not installed.
    """
    arrow = optional_import("pyarrow", extra="cli", purpose="read a screening")
    dataset = optional_import("pyarrow.dataset", extra="cli", purpose="read a screening")
    parts = sorted(folder.glob("part-*.parquet"))
    if not parts:
        raise BadFileError(f"{folder}: expected the folder of a screening, with part-*.parquet; or give PATHS")
    names = ["id", "lattice_vectors", "species_at_sites", "cartesian_site_positions", "band_gap"]
    wanted = dataset.field("id").isin([one.id for one in ranked])
    try:
        table = dataset.dataset([str(part) for part in parts]).to_table(columns=names, filter=wanted)
    except (OSError, ValueError, arrow.ArrowException) as error:
        raise BadFileError(f"{folder}: the parts cannot be read: {error}") from error
    for row in table.to_pylist():
        item = read_document(row, row["id"], str(folder))
        if isinstance(item, Crystal) and row["band_gap"] is not None:
            item.info["band_gap"] = row["band_gap"]
        yield item


def choose(items: Iterable[Crystal | Rejected], ranked: Sequence[Ranked]) -> Iterator[Crystal | Rejected]:
    """Pick crystals by id, in the order of the ranking; those that are missing or have another formula are rejected."""
    wanted = {one.id for one in ranked}
    found: dict[str, Crystal] = {}
    for item in items:
        if isinstance(item, Crystal) and item.id in wanted:
            found.setdefault(item.id, item)
    for id, formula in ranked:
        crystal = found.get(id)
        if crystal is None:
            yield Rejected(id, "", "ranked, but not among the given files: give the files that were screened")
        elif formula and crystal.formula != formula:
            reason = (
                f"the ranking has {formula} with this id, the file {crystal.formula}: give the files that were screened"
            )
            yield Rejected(id, crystal.source, reason)
        else:
            yield crystal

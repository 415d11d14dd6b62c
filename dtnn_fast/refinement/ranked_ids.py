# SPDX-License-Identifier: MIT
"""The best crystals of a screening, by the ranking.csv that it wrote."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ..crystals.crystal import Crystal, Rejected
from ..errors import BadFileError


def read_best_ids(path: Path, count: int) -> list[str]:
    """Read the ids of the first ranks.

    Args:
        path: ranking.csv of a screening, or the screening's folder.
        count: number of crystals, at most.

    Raises:
        BadFileError: the file is missing or is no ranking.
    """
    file = path / "ranking.csv" if path.is_dir() else path
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            rows = csv.DictReader(lines)
            if rows.fieldnames is None or not {"rank", "id"} <= set(rows.fieldnames):
                raise BadFileError(f"{file}: expected ranking.csv of dtnn-fast screen, with the columns rank and id")
            return [row["id"] for row, _ in zip(rows, range(count), strict=False)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadFileError(f"{file}: cannot be read: {error}") from error


def choose(items: Iterable[Crystal | Rejected], ids: Sequence[str]) -> Iterator[Crystal | Rejected]:
    """Pick crystals by id, in the order of the ids; those that are not there are rejected."""
    wanted = set(ids)
    found: dict[str, Crystal] = {}
    for item in items:
        if isinstance(item, Crystal) and item.id in wanted:
            found.setdefault(item.id, item)
    for id in ids:
        yield found.get(id) or Rejected(id, "", "ranked, but not among the given files: give those that were screened")

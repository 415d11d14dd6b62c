# SPDX-License-Identifier: MIT
"""What a screening does when all chunks are predicted: unique ids, duplicates, the list of what was rejected."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..crystals.crystal import Crystal, Rejected
from ..crystals.elements import atomic_number
from ..errors import BadFileError, DTNNError, MissingPackageError, optional_import
from ..files import replacing
from .duplicates import find_duplicates
from .parts import Parts
from .synced_files import write_synced


class Row(NamedTuple):
    """A row of a folder of Parquet files.

    Args:
        file: its number among the files.
        row: its number in the file.
    """

    file: int
    row: int


def require_all_chunks(parts: Parts, num_chunks: int) -> None:
    """Check that a screening is complete.

    Raises:
        DTNNError: chunks are missing; the message lists the first ones.
    """
    missing = sorted(set(range(num_chunks)) - parts.finished_chunks())
    if missing:
        first = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
        raise DTNNError(
            f"{parts.folder}: {len(missing)} of {num_chunks} chunks are not screened yet (numbers {first}): wait for "
            "the other jobs, or start them again"
        )


def make_ids_unique(files: Sequence[Path]) -> int:
    """Give ids that occur again a suffix: ``mp-1``, ``mp-1#2``, ``mp-1#3``, in the order of the files and rows.

    Files without repeated ids are not written. Stopped and started again, it gives the same ids.

    Args:
        files: Parquet files with a column ``id``.

    Returns:
        The number of ids that were changed.
    """
    ids = [_column(file, "id") for file in files]
    # Only hashes of all ids are held sorted, 8 bytes each; texts of repeated ids only.
    hashes = [np.fromiter(map(hash, column), np.int64, len(column)) for column in ids]
    every = np.sort(np.concatenate(hashes)) if hashes else np.zeros(0, dtype=np.int64)
    repeated = set(every[1:][every[1:] == every[:-1]].tolist())
    if not repeated:
        return 0
    counts: Counter[str] = Counter()
    taken = {
        name
        for column, own in zip(ids, hashes, strict=True)
        for name, h in zip(column, own, strict=True)
        if "#" in name
    }
    changed = 0
    for file, column, own in zip(files, ids, hashes, strict=True):
        new = list(column)
        for row, (name, key) in enumerate(zip(column, own.tolist(), strict=True)):
            if key not in repeated:
                continue
            counts[name] += 1
            if counts[name] == 1:
                continue
            while (unique := f"{name}#{counts[name]}") in taken:
                counts[name] += 1
            taken.add(unique)
            new[row] = unique
        if new != column:
            changed += sum(a != b for a, b in zip(new, column, strict=True))
            _replace_column(file, "id", new)
    return changed


def mark_duplicates(files: Sequence[Path], on_group: Callable[[int], None] = lambda number: None) -> int | None:
    """Write the id of the first crystal of the same structure into ``duplicate_of`` of each later one.

    Only crystals of one composition, space group and Wyckoff sequence are compared, by pymatgen's StructureMatcher.

    Args:
        files: Parquet files with the columns of a part or shard.
        on_group: called with the number of crystals that were compared.

    Returns:
        The number of duplicates; None where pymatgen is not installed.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for number, file in enumerate(files):
        keys = zip(*(_column(file, name) for name in ("prototype", _formula_column(file))), strict=True)
        for place, key in enumerate(keys):
            if key[0] is not None:
                groups.setdefault(key, []).append(Row(number, place))
    several = [rows for rows in groups.values() if len(rows) > 1]
    wanted = {row for rows in several for row in rows}
    crystals = dict(_crystals(files, wanted))
    changes: dict[int, dict[int, str]] = {}
    count = 0
    try:
        for rows in several:
            found = find_duplicates([crystals[row] for row in rows])
            on_group(len(rows))
            for row, first in zip(rows, found, strict=True):
                if first is not None:
                    changes.setdefault(row.file, {})[row.row] = crystals[rows[first]].id
                    count += 1
    except MissingPackageError:
        return None
    for number, of_file in changes.items():
        values = _column(files[number], "duplicate_of")
        new = [of_file.get(row, value) for row, value in enumerate(values)]
        if new != values:
            _replace_column(files[number], "duplicate_of", new)
    return count


def write_rejected_csv(path: Path, parts: Parts, others: Iterable[Rejected]) -> int:
    """Write all rejected crystals of a screening as CSV, one part in memory at a time.

    Args:
        path: the file.
        parts: the folder of the screening.
        others: rejected before reading, for example missing files; they come first.

    Returns:
        Their number.
    """
    count = 0
    with replacing(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "source", "reason"])
        for reject in _chain(others, parts):
            writer.writerow([reject.id, reject.source, " ".join(reject.reason.split())])
            count += 1
    return count


def _chain(others: Iterable[Rejected], parts: Parts) -> Iterator[Rejected]:
    yield from others
    yield from rejected_of(parts)


def rejected_of(parts: Parts) -> Iterator[Rejected]:
    """Give the rejected crystals of the parts, in the order of the input."""
    for file in parts.rejected_files():
        columns = [_column(file, name) for name in ("id", "source", "reason")]
        yield from (Rejected(*values) for values in zip(*columns, strict=True))


def _crystals(files: Sequence[Path], wanted: Iterable[Row]) -> Iterator[tuple[Row, Crystal]]:
    parquet = optional_import("pyarrow.parquet", extra="cli", purpose="read Parquet files")
    by_file: dict[int, list[int]] = {}
    for file, row in sorted(wanted):
        by_file.setdefault(file, []).append(row)
    for file, rows in by_file.items():
        names = ["id", "lattice_vectors", "species_at_sites", "cartesian_site_positions"]
        for row, values in zip(
            rows, parquet.read_table(files[file], columns=names).take(rows).to_pylist(), strict=True
        ):
            numbers = [atomic_number(symbol) for symbol in values["species_at_sites"]]
            yield (
                Row(file, row),
                Crystal.make(values["id"], numbers, values["cartesian_site_positions"], values["lattice_vectors"]),
            )


def _formula_column(file: Path) -> str:
    parquet = optional_import("pyarrow.parquet", extra="cli", purpose="read Parquet files")
    names: list[str] = parquet.read_schema(file).names
    return "formula" if "formula" in names else "chemical_formula_reduced"


def _column(file: Path, name: str) -> list[Any]:
    pa = optional_import("pyarrow", extra="cli", purpose="read Parquet files")
    parquet = optional_import("pyarrow.parquet", extra="cli", purpose="read Parquet files")
    try:
        values: list[Any] = parquet.read_table(file, columns=[name])[name].to_pylist()
    except (OSError, KeyError, pa.ArrowException) as error:
        raise BadFileError(f"{file}: damaged: {error}. Remove it and start again: it is computed anew") from error
    return values


def _replace_column(file: Path, name: str, values: Sequence[Any]) -> None:
    pa = optional_import("pyarrow", extra="cli", purpose="write Parquet files")
    parquet = optional_import("pyarrow.parquet", extra="cli", purpose="write Parquet files")
    table = parquet.read_table(file)
    place = table.schema.get_field_index(name)
    field = table.schema.field(place)
    changed: Mapping[bytes, bytes] | None = table.schema.metadata
    table = table.set_column(place, field, pa.array(values, pa.string())).replace_schema_metadata(changed)
    write_synced(file, table)

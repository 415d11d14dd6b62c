# SPDX-License-Identifier: MIT
"""Last steps of a screening, after all chunks are predicted: unique ids, duplicates, the list of rejected crystals."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ..crystals.crystal import Crystal, Rejected
from ..crystals.elements import atomic_number
from ..errors import BadFileError, DTNNError, MissingPackageError, optional_import
from ..files import replacing
from .duplicates import find_duplicates
from .input_chunks import ScreeningInput, load_table
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


class UnmatchedIds(NamedTuple):
    """Rows of a table of properties that belong to no crystal.

    Args:
        table: the file.
        num_unmatched: number of these rows.
        num_rows: number of rows.
        example: the first of their ids.
    """

    table: str
    num_unmatched: int
    num_rows: int
    example: str

    def __str__(self) -> str:
        """Say it in one line."""
        return (
            f"{self.table}: {self.num_unmatched:,} of {self.num_rows:,} ids have no crystal, for example {self.example}"
        )


def find_unmatched(inputs: ScreeningInput, parts: Parts) -> list[UnmatchedIds]:
    """Count the ids in tables of properties that no crystal has, predicted or rejected.

    Args:
        inputs: what was screened.
        parts: the folder, with all parts; ids have no suffixes yet, or the first of each id has none.

    Returns:
        One for each table that has such ids.
    """
    found = []
    for name in dict.fromkeys(name for chunk in inputs.chunks for name in chunk.tables):
        table = load_table(name)
        # Not `table.unmatched`: the table is shared by all screenings of this process.
        files = (*parts.part_files(), *parts.rejected_files())
        matched = {table.match(id) for file in files for id in _column(file, "id")}
        if unmatched := [id for id in table.rows if id not in matched]:
            found.append(UnmatchedIds(name, len(unmatched), len(table.rows), unmatched[0]))
    return found


def make_ids_unique(files: Sequence[Path]) -> int:
    """Give ids that occur again a suffix: ``mp-1``, ``mp-1#2``, ``mp-1#3``, in the order of the files and rows.

    Files without repeated ids are not written. Stopped and started again, it gives the same ids.

    Args:
        files: Parquet files with a column ``id``.

    Returns:
        The number of ids that were changed.
    """
    if not files:
        return 0
    with _rows_of(files) as connection:
        repeated = {
            row[0] for row in connection.execute("SELECT id FROM rows GROUP BY id HAVING count(*) > 1").fetchall()
        }
        if not repeated:
            return 0
        taken = {row[0] for row in connection.execute("SELECT id FROM rows WHERE contains(id, '#')").fetchall()}
    counts: Counter[str] = Counter()
    changed = 0
    for file in files:
        before = _column(file, "id")
        new = list(before)
        for row, name in enumerate(before):
            if name not in repeated:
                continue
            counts[name] += 1
            if counts[name] == 1:
                continue
            while (unique := f"{name}#{counts[name]}") in taken:
                counts[name] += 1
            taken.add(unique)
            new[row] = unique
        if new != before:
            changed += sum(a != b for a, b in zip(new, before, strict=True))
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
    if not files:
        return 0
    changes: dict[int, dict[int, str]] = {}
    count = 0
    try:
        for groups in _groups_alike(files):
            # Each file is read once for many groups.
            crystals = dict(_crystals(files, (row for group in groups for row in group)))
            for group in groups:
                found = find_duplicates([crystals[row] for row in group])
                on_group(len(group))
                for row, first in zip(group, found, strict=True):
                    if first is not None:
                        changes.setdefault(row.file, {})[row.row] = crystals[group[first]].id
                        count += 1
    except MissingPackageError:
        return None
    for number, of_file in changes.items():
        values = _column(files[number], "duplicate_of")
        new = [of_file.get(row, value) for row, value in enumerate(values)]
        if new != values:
            _replace_column(files[number], "duplicate_of", new)
    return count


def _groups_alike(files: Sequence[Path]) -> Iterator[list[list[Row]]]:
    """Give the rows of equal formula and prototype, where there are several: lists of some of these groups."""
    with _rows_of(files, ("prototype", _formula_column(files[0]))) as connection:
        groups = connection.execute(
            "SELECT list(file ORDER BY file, row), list(row ORDER BY file, row) FROM rows WHERE prototype IS NOT NULL "
            "GROUP BY key HAVING count(*) > 1 ORDER BY min(file), min(row)"
        )
        while batch := groups.fetchmany(1000):
            yield [[Row(file, row) for file, row in zip(numbers, rows, strict=True)] for numbers, rows in batch]


@contextmanager
def _rows_of(files: Sequence[Path], key: Sequence[str] = ()) -> Iterator[Any]:
    """Open a connection to DuckDB with the view rows: file and row numbers, id, prototype, and a key of columns."""
    duckdb = optional_import("duckdb", extra="cli", purpose="compare ids and structures")
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE files (name VARCHAR, file INTEGER)")
        connection.executemany("INSERT INTO files VALUES (?, ?)", [(str(f), n) for n, f in enumerate(files)])
        listed = ", ".join("'" + str(file).replace("'", "''") + "'" for file in files)
        keys = ", ".join(f'"{name}"' for name in key) or "id"
        prototype = ", prototype" if key else ""
        try:
            connection.execute(
                f"CREATE VIEW rows AS SELECT file, file_row_number AS row, id, ({keys}) AS key{prototype} FROM "
                f"read_parquet([{listed}], filename = true, file_row_number = true, union_by_name = true) AS parts "
                "JOIN files ON parts.filename = files.name"
            )
            yield connection
        except duckdb.IOException as error:
            raise BadFileError(f"{files[0].parent}: a part is damaged: {error}") from error


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
        raise BadFileError(
            f"{file}: damaged: {error}. Delete it and run the command again: it is then recomputed"
        ) from error
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

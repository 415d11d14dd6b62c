# SPDX-License-Identifier: MIT
"""Read crystals from Parquet with the column names of OPTIMADE, as in LeMat-Bulk and packed data of dtnn-fast.

Names: https://github.com/Materials-Consortia/OPTIMADE, "Structures Entries".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..crystals.crystal import Crystal, Rejected
from ..errors import BadFileError, optional_import
from ..files import parse_json
from .compressed import open_file
from .crystal_shards import is_shard, read_shard
from .file_ids import default_id
from .json_structures import OPTIMADE_KEYS, id_of, read_document
from .read_position import track

# Rows in memory at a time.
_BATCH_ROWS = 1024
# Columns that are lists but describe the structure.
_STRUCTURE_COLUMNS = (*OPTIMADE_KEYS, "species", "structure_features", "dimension_types")


def read_parquet(path: Path, text: str = "") -> Iterator[Crystal | Rejected]:
    """Read the crystals of a Parquet file.

    Args:
        path: the file.
        text: not used: the file is not text.

    Raises:
        BadFileError: the file is damaged, or has no structures.
        MissingPackageError: pyarrow is not installed.
    """
    yield from iter_parquet_rows(path)


def iter_parquet_rows(path: Path | str, row_groups: Sequence[int] | None = None) -> Iterator[Crystal | Rejected]:
    """Read the rows of a Parquet file with OPTIMADE's column names, a thousand in memory at a time.

    Columns `lattice_vectors` [3, 3] and `cartesian_site_positions` [N, 3], both in Angstrom, and `species_at_sites` [N]
    are needed. `species` (lists of structs, or JSON text), `dimension_types`, `nperiodic_dimensions`, `nsites` and
    `structure_features` are checked where they are given. Ids are those of `immutable_id`, `material_id`, `id` and so
    on, else the name of the file with the number of the row from 1. Other columns of scalars go to `Crystal.info`.

    Args:
        path: the file.
        row_groups: numbers of the row groups to read, in this order; None for all. Rows are counted in the whole file.

    Returns:
        A Crystal for each row, or a Rejected where it cannot be read.

    Raises:
        BadFileError: the file is missing or damaged, has no structures, or has no such row group.
        MissingPackageError: pyarrow is not installed.
    """
    path = Path(path)
    parquet = optional_import("pyarrow.parquet", extra="cli", purpose="read Parquet files")
    arrow = optional_import("pyarrow", extra="cli", purpose="read Parquet files")
    try:
        with open_file(path) as data, parquet.ParquetFile(data) as file:
            if is_shard(file.schema_arrow):
                yield from read_shard(path, row_groups)
                return
            columns = _columns_to_read(path, file.schema_arrow)
            sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
            chosen = range(len(sizes)) if row_groups is None else row_groups
            num_bytes, done = path.stat().st_size, 0
            # Not the position in the file: its end is read first.
            track(path, lambda: num_bytes * done / max(1, sum(sizes)))
            for group in chosen:
                if not 0 <= group < len(sizes):
                    raise BadFileError(f"{path}: expected row groups from 0 to {len(sizes) - 1}, got {group}")
                number = sum(sizes[:group])
                for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=columns):
                    yield from _read_batch(path, batch, number)
                    number += len(batch)
                    done += len(batch)
    except BadFileError:
        raise
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise BadFileError(f"{path}: not a Parquet file, or damaged: {_first_line(error)}") from error


def has_structures(path: Path) -> bool:
    """Return whether a Parquet file has the columns of structures.

    Args:
        path: the file.

    Raises:
        BadFileError: the file is missing or damaged.
        MissingPackageError: pyarrow is not installed.
    """
    parquet = optional_import("pyarrow.parquet", extra="cli", purpose="read Parquet files")
    arrow = optional_import("pyarrow", extra="cli", purpose="read Parquet files")
    try:
        with open_file(path) as data:
            return set(OPTIMADE_KEYS) <= set(parquet.read_schema(data).names)
    except BadFileError:
        raise
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise BadFileError(f"{path}: not a Parquet file, or damaged: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _columns_to_read(path: Path, schema: Any) -> list[str]:
    """Return the columns of the structure and those of scalars; lists of numbers such as forces are not read."""
    missing = [name for name in OPTIMADE_KEYS if name not in schema.names]
    if missing:
        raise BadFileError(
            f"{path}: no structures in it: expected the columns {', '.join(OPTIMADE_KEYS)}; missing "
            f"{', '.join(missing)}"
        )
    types = optional_import("pyarrow.types", extra="cli", purpose="read Parquet files")
    return [
        field.name
        for field in schema
        if field.name in _STRUCTURE_COLUMNS or not (types.is_nested(field.type) or types.is_binary(field.type))
    ]


def _read_batch(path: Path, batch: Any, first: int) -> Iterator[Crystal | Rejected]:
    """Read the rows of a record batch; `first` is the number of rows of the file before it."""
    arrays = {name: _ragged(batch.column(name)) for name in OPTIMADE_KEYS[:2]}
    others = [name for name in batch.schema.names if name not in arrays]
    stem = default_id(path)
    for number, row in enumerate(batch.select(others).to_pylist()):
        document = {**row, **{name: values[number] for name, values in arrays.items()}}
        document = {name: value for name, value in document.items() if value is not None}
        name, source = f"{stem}:{first + number + 1}", f"{path} (row {first + number + 1})"
        missing = [key for key in OPTIMADE_KEYS if key not in document]
        if missing:
            yield Rejected(id_of(document, name), source, f"{', '.join(missing)} is not given")
            continue
        try:
            yield read_document(_with_species(document), name, source)
        except ValueError as error:
            yield Rejected(id_of(document, name), source, f"species is not valid JSON: {error}")


def _with_species(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row with `species` as objects, where it is JSON text."""
    species = row.get("species")
    return {**row, "species": parse_json(species)} if isinstance(species, str) else row


def _ragged(column: Any) -> list[Any]:
    """Convert a column of lists of three numbers to arrays [n, 3], float64; other values to Python's lists, or None."""
    try:
        values = column.flatten()
        numbers = values.flatten().to_numpy(zero_copy_only=True).astype(np.float64)
        lengths = column.value_lengths().fill_null(0).to_numpy().astype(np.int64)
        is_plain = values.null_count == 0 and (values.value_lengths().to_numpy() == 3).all()
    except (AttributeError, ValueError):  # not nested, or numbers are missing: the conversion would copy
        is_plain = False
    if not is_plain:
        return list(column.to_pylist())
    parts = np.split(numbers.reshape(-1, 3), np.cumsum(lengths)[:-1])
    return [part if is_valid else None for part, is_valid in zip(parts, column.is_valid().to_pylist(), strict=True)]

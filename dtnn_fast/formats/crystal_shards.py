# SPDX-License-Identifier: MIT
"""Packed crystals as a folder of Parquet shards: structures in OPTIMADE's names, columns of the source, symmetry.

``dtnn-fast pack`` writes such folders. ``packed.json`` lists the shards; other programs can read these by themselves.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..crystals.crystal import Crystal, Rejected
from ..crystals.elements import SYMBOLS, atomic_number
from ..crystals.operations import SymmetryOperations
from ..errors import BadFileError, optional_import
from ..files import read_json_object

FORMAT = "dtnn_fast packed crystals 1"
LIST_FILE = "packed.json"
# Rows that are read at a time.
ROW_GROUP = 4096
_PURPOSE = "read and write packed crystals"
_INFO_COLUMN = "info"


def crystals_to_table(crystals: Sequence[Crystal]) -> Any:
    """Make a table of crystals; `Crystal.info` is a JSON object in the column ``info``.

    Args:
        crystals: labels (tensors, Born charges) are not kept.

    Returns:
        A `pyarrow.Table` with a row for each crystal.

    Raises:
        MissingPackageError: pyarrow is not installed.
    """
    pa = optional_import("pyarrow", extra="cli", purpose=_PURPOSE)
    counts = [crystal.num_atoms for crystal in crystals]
    operations = [crystal.operations for crystal in crystals]
    num_operations = [0 if found is None else len(found) for found in operations]
    known = [found for found in operations if found is not None]
    info = [json.dumps(crystal.info, default=str) for crystal in crystals]
    columns = {
        "id": pa.array([crystal.id for crystal in crystals], pa.string()),
        "chemical_formula_reduced": pa.array([crystal.formula for crystal in crystals], pa.string()),
        "nsites": pa.array(counts, pa.int32()),
        "lattice_vectors": _matrices(pa, _join([crystal.cell for crystal in crystals], (0, 3)), [3] * len(crystals)),
        "cartesian_site_positions": _matrices(pa, _join([crystal.positions for crystal in crystals], (0, 3)), counts),
        "species_at_sites": pa.array(
            [[SYMBOLS[z] for z in crystal.atomic_numbers.tolist()] for crystal in crystals], pa.list_(pa.string())
        ),
        "dimension_types": pa.array([crystal.pbc.astype(int).tolist() for crystal in crystals], pa.list_(pa.int8())),
        "source": pa.array([crystal.source for crystal in crystals], pa.string()),
        **{
            name: pa.array([crystal.info.get(name) for crystal in crystals], type)
            for name, type in (
                *(("space_group", pa.int32()), ("crystal_system", pa.string()), ("prototype", pa.string())),
                *(("wyckoff", pa.string()), ("duplicate_of", pa.string())),
            )
        },
        "operation_rotations": _lists(
            pa, _join([o.rotations for o in known], (0, 3, 3)), num_operations, 9, pa.int16()
        ),
        "operation_images": _lists(pa, _join([o.images for o in known], (0,)), num_operations, 1, pa.int32()),
        _INFO_COLUMN: pa.array(info, pa.string()),
    }
    schema = pa.schema(
        [pa.field(name, array.type) for name, array in columns.items()], metadata={"dtnn_fast_format": FORMAT}
    )
    return pa.Table.from_arrays(list(columns.values()), schema=schema)


def crystals_of_table(table: Any) -> Iterator[Crystal | Rejected]:
    """Give the crystals of a table that `crystals_to_table` made, in order; damaged rows are rejected.

    Args:
        table: a `pyarrow.Table`.
    """
    counts = table["nsites"].to_numpy()
    ends = np.cumsum(counts).tolist()
    positions = _flat(table["cartesian_site_positions"], 2).reshape(-1, 3)
    cells = _flat(table["lattice_vectors"], 2).reshape(-1, 3, 3)
    symbols = table["species_at_sites"].combine_chunks().flatten().to_pylist()
    numbers = np.array([atomic_number(symbol) for symbol in symbols], dtype=np.int64)
    periodic = _flat(table["dimension_types"], 1).reshape(-1, 3).astype(bool)
    rotations = _flat(table["operation_rotations"], 1).reshape(-1, 3, 3)
    images = _flat(table["operation_images"], 1)
    num_operations = [len(row) for row in table["operation_images"].to_pylist()]
    operation_ends = np.cumsum(num_operations).tolist()
    facts = {name: table[name].to_pylist() for name in ("space_group", "crystal_system", "prototype", "wyckoff")}
    facts["duplicate_of"] = table["duplicate_of"].to_pylist()
    names, sources, infos = (table[name].to_pylist() for name in ("id", "source", _INFO_COLUMN))
    for row, (name, source) in enumerate(zip(names, sources, strict=True)):
        atoms = slice(ends[row] - counts[row], ends[row])
        found = slice(operation_ends[row] - num_operations[row], operation_ends[row])
        known = {key: values[row] for key, values in facts.items() if values[row] is not None}
        operations = None
        if num_operations[row]:
            operations = SymmetryOperations(rotations[found].astype(np.int32), images[found].astype(np.int64))
        yield Crystal(
            name,
            numbers[atoms],
            positions[atoms],
            cells[row],
            periodic[row],
            source=source,
            info={**json.loads(infos[row]), **known},
            operations=operations,
        )


def packed_shards(folder: Path) -> list[Path] | None:
    """List the shards of a packed folder in order; None where it is none.

    Raises:
        BadFileError: its list is damaged, or a shard is missing.
    """
    listing = folder / LIST_FILE
    if not listing.is_file():
        return None
    values = read_json_object(listing)
    names = [entry.get("name") for entry in values.get("shards", []) if isinstance(entry, dict)]
    if values.get("format") != FORMAT or not all(isinstance(name, str) for name in names):
        raise BadFileError(f"{listing}: not the list of a packed folder (format {FORMAT!r}) of dtnn-fast pack")
    shards = [folder / str(name) for name in names]
    for shard in shards:
        if not shard.is_file():
            raise BadFileError(f"{shard}: missing, although {listing.name} lists it: pack again")
    return shards


def is_shard(schema: Any) -> bool:
    """Tell whether a Parquet file is a shard, by its `pyarrow.Schema`."""
    return bool((schema.metadata or {}).get(b"dtnn_fast_format", b"").decode() == FORMAT)


def read_shard(path: Path, row_groups: Sequence[int] | None = None) -> Iterator[Crystal | Rejected]:
    """Read a shard, one row group in memory at a time.

    Args:
        path: the file.
        row_groups: numbers of the row groups; None for all.

    Raises:
        BadFileError: the file is damaged, or is no shard.
        MissingPackageError: pyarrow is not installed.
    """
    pa = optional_import("pyarrow", extra="cli", purpose=_PURPOSE)
    parquet = optional_import("pyarrow.parquet", extra="cli", purpose=_PURPOSE)
    try:
        with parquet.ParquetFile(path) as file:
            if not is_shard(file.schema_arrow):
                raise BadFileError(f"{path}: expected a shard of dtnn-fast pack (format {FORMAT!r})")
            for group in range(file.num_row_groups) if row_groups is None else row_groups:
                yield from crystals_of_table(file.read_row_group(group))
    except (OSError, pa.ArrowException, ValueError, KeyError) as error:
        raise BadFileError(f"{path}: damaged: {error}") from error


def _join(arrays: Sequence[np.ndarray], empty_shape: tuple[int, ...]) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.zeros(empty_shape)


def _lists(pa: Any, values: np.ndarray, counts: Sequence[int], width: int, type: Any) -> Any:
    """Make a column of flat lists of ``count * width`` numbers."""
    ends = np.cumsum([0, *counts]) * width
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(values.ravel(), type))


def _matrices(pa: Any, rows: np.ndarray, counts: Sequence[int]) -> Any:
    """Make a column of lists of three numbers."""
    triples = pa.ListArray.from_arrays(
        pa.array(np.arange(0, 3 * len(rows) + 1, 3), pa.int32()), pa.array(rows.ravel(), pa.float64())
    )
    return pa.ListArray.from_arrays(pa.array(np.cumsum([0, *counts]), pa.int32()), triples)


def _flat(column: Any, depth: int) -> np.ndarray:
    values = column.combine_chunks()
    for _ in range(depth):
        values = values.flatten()
    array: np.ndarray = values.to_numpy(zero_copy_only=False)
    return array

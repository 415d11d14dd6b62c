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
from ..files import parse_json, read_json_object

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


def crystals_of_table(table: Any, source: str = "") -> Iterator[Crystal | Rejected]:
    """Give the crystals of a table that `crystals_to_table` made, in order; damaged rows are rejected.

    Args:
        table: a `pyarrow.Table`.
        source: name of the file, for rejected rows.
    """
    try:
        yield from _crystals_together(table)
    except _DamagedRowError as error:
        if table.num_rows == 1:
            name, written = table["id"][0].as_py(), table["source"][0].as_py()
            yield Rejected(name or "", source or written or "", f"damaged row: {error}")
            return
        for row in range(table.num_rows):
            yield from crystals_of_table(table.slice(row, 1), source)


class _DamagedRowError(Exception):
    """A row of a table is damaged; the message says what was found."""


def _crystals_together(table: Any) -> list[Crystal]:
    """Read all rows of a table, or none.

    Raises:
        _DamagedRowError: a row is damaged.
    """
    counts = _values(table["nsites"], "nsites")
    ends = np.cumsum(counts).tolist()
    positions = _triples(table["cartesian_site_positions"], counts, "cartesian_site_positions")
    cells = _triples(table["lattice_vectors"], np.full(len(counts), 3), "lattice_vectors").reshape(-1, 3, 3)
    lengths, symbols = _flat(table["species_at_sites"], "species_at_sites")
    _expect_lengths(lengths, counts, "species_at_sites")
    try:
        numbers = np.array([atomic_number(symbol) for symbol in symbols.to_pylist()], dtype=np.int64)
    except ValueError as error:
        raise _DamagedRowError(str(error)) from error
    lengths, dimensions = _flat(table["dimension_types"], "dimension_types")
    _expect_lengths(lengths, np.full(len(counts), 3), "dimension_types")
    periodic = _values(dimensions, "dimension_types").reshape(-1, 3).astype(bool)
    num_operations, images = _flat(table["operation_images"], "operation_images")
    lengths, rotations = _flat(table["operation_rotations"], "operation_rotations")
    _expect_lengths(lengths, 9 * num_operations, "operation_rotations")
    operations = SymmetryOperations(
        _values(rotations, "operation_rotations").reshape(-1, 3, 3).astype(np.int32),
        _values(images, "operation_images").astype(np.int64),
    )
    if not ((operations.images >= 0) & (operations.images < np.repeat(counts, num_operations))).all():
        raise _DamagedRowError("expected `operation_images` of atoms of the crystal")
    operation_ends = np.cumsum(num_operations).tolist()
    facts = {name: table[name].to_pylist() for name in ("space_group", "crystal_system", "prototype", "wyckoff")}
    facts["duplicate_of"] = table["duplicate_of"].to_pylist()
    names, sources, infos = (_texts(table[name], name) for name in ("id", "source", _INFO_COLUMN))
    crystals = []
    for row, (name, source) in enumerate(zip(names, sources, strict=True)):
        atoms = slice(ends[row] - counts[row], ends[row])
        found = slice(operation_ends[row] - num_operations[row], operation_ends[row])
        crystals.append(
            Crystal(
                name,
                numbers[atoms],
                positions[atoms],
                cells[row],
                periodic[row],
                source=source,
                info={
                    **_json_object(infos[row]),
                    **{key: values[row] for key, values in facts.items() if values[row] is not None},
                },
                operations=SymmetryOperations(*(array[found] for array in operations)) if num_operations[row] else None,
            )
        )
    return crystals


def _json_object(text: str) -> dict[str, Any]:
    try:
        values = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise _DamagedRowError(f"expected JSON in `info`: {error}") from error
    if not isinstance(values, dict):
        raise _DamagedRowError(f"expected a JSON object in `info`, got {type(values).__name__}")
    return values


def packed_shards(folder: Path) -> list[Path] | None:
    """List the shards of a packed folder in order; None where it is none.

    Raises:
        BadFileError: its list is damaged, or a shard is missing.
    """
    listing = folder / LIST_FILE
    if not listing.is_file():
        return None
    values = read_json_object(listing)
    entries = values.get("shards")
    listed = entries if isinstance(entries, list) else [None]
    names = [entry.get("name") if isinstance(entry, dict) else None for entry in listed]
    # Names only: a list must not lead out of its folder.
    if values.get("format") != FORMAT or not all(isinstance(name, str) and Path(name).name == name for name in names):
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
            _check_columns(path, file.schema_arrow)
            for group in range(file.num_row_groups) if row_groups is None else row_groups:
                yield from crystals_of_table(file.read_row_group(group), str(path))
    except BadFileError:  # a ValueError too, whose message says what is wrong
        raise
    except (OSError, pa.ArrowException, ValueError, KeyError) as error:
        raise BadFileError(f"{path}: damaged: {error}") from error


def _check_columns(path: Path, schema: Any) -> None:
    for field in crystals_to_table([]).schema:
        place = schema.get_field_index(field.name)
        found = "no such column" if place < 0 else schema.field(place).type
        if found != field.type:
            raise BadFileError(f"{path}: damaged: expected the column {field.name!r} of type {field.type}, got {found}")


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


def _flat(column: Any, name: str) -> tuple[np.ndarray, Any]:
    """Return the length of each list of a column, and all of their values, one after the other."""
    lists = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    if lists.null_count:
        raise _DamagedRowError(f"expected `{name}`, got no value")
    ends: np.ndarray = lists.offsets.to_numpy()
    return np.diff(ends), lists.flatten()


def _triples(column: Any, counts: np.ndarray, name: str) -> np.ndarray:
    lengths, rows = _flat(column, name)
    _expect_lengths(lengths, counts, name)
    lengths, numbers = _flat(rows, name)
    _expect_lengths(lengths, np.full(len(lengths), 3), name)
    return _values(numbers, name).reshape(-1, 3)


def _values(column: Any, name: str) -> np.ndarray:
    if column.null_count:
        raise _DamagedRowError(f"expected numbers in `{name}`, got no value")
    array: np.ndarray = column.to_numpy() if hasattr(column, "num_chunks") else column.to_numpy(zero_copy_only=False)
    return array


def _texts(column: Any, name: str) -> list[str]:
    if column.null_count:
        raise _DamagedRowError(f"expected a text in `{name}`, got no value")
    texts: list[str] = column.to_pylist()
    return texts


def _expect_lengths(lengths: np.ndarray, expected: np.ndarray, name: str) -> None:
    wrong = np.flatnonzero(lengths != expected)
    if len(wrong):
        raise _DamagedRowError(f"expected `{name}` of length {expected[wrong[0]]}, got {lengths[wrong[0]]}")

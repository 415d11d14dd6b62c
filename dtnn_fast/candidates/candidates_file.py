# SPDX-License-Identifier: MIT
"""Files of candidates: Parquet with OPTIMADE's names, JSON lines, or CIF."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from ..crystals.crystal import Crystal
from ..crystals.elements import SYMBOLS
from ..errors import BadFileError, optional_import
from ..files import replacing
from ..formats.json_lines import json_row

# Crystals in a file of a folder, and in a row group, which is what is in memory at once.
SHARD_ROWS = 50_000
_GROUP_ROWS = 5_000
_FILE_SUFFIXES = (".parquet", ".jsonl", ".cif")
_TEXTS = {
    "parent": "id of the crystal whose elements were replaced",
    "substitution": "replaced ions",
    "prototype": "anonymous formula, space group, and id of the first crystal of this structure",
    "oxidation_states": "ions of the crystal, whose charges add up to zero",
}
_NUMBERS = {
    "volume_scale": "volume over that of the parent's cell, from Shannon's ionic radii",
    "substitution_probability": "product of the probabilities of the ions by Hautier et al., Inorg. Chem. 50, 656",
}


def write_candidates(path: Path, crystals: Iterable[Crystal], provenance: Mapping[str, Any]) -> Iterator[int]:
    """Write candidates in the form that the name asks for, and yield the number written so far after each few thousand.

    Args:
        path: a name that ends in .parquet, .jsonl or .cif, for one file; otherwise a folder, missing or empty, for
            files ``part-000000.parquet`` of 50,000 crystals.
        crystals: of `Candidates`.
        provenance: how they were made; goes into the metadata of Parquet files.

    Raises:
        BadFileError: the folder is not empty, or the parent folder is missing.
        MissingPackageError: pyarrow is not installed.
    """
    check_output(path)
    if path.suffix == ".jsonl":
        yield from _write_text(path, map(_json_line, crystals))
    elif path.suffix == ".cif":
        yield from _write_text(path, map(_cif_block, crystals))
    elif path.suffix == ".parquet":
        yield from _write_parquet(path, iter(crystals), provenance)
    else:
        yield from _write_folder(path, iter(crystals), provenance)


def check_output(path: Path) -> None:
    """Check that `write_candidates` can write there.

    Raises:
        BadFileError: the folder is not empty, or the parent folder is missing.
    """
    if not path.parent.is_dir():
        raise BadFileError(f"{path}: there is no folder {path.parent}")
    if path.suffix in _FILE_SUFFIXES:
        if path.is_dir():
            raise BadFileError(f"{path}: is a folder, where a file must go")
    elif path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise BadFileError(
            f"{path}: expected a missing or empty folder, or a name that ends in {', '.join(_FILE_SUFFIXES)}"
        )


def _write_folder(folder: Path, crystals: Iterator[Crystal], provenance: Mapping[str, Any]) -> Iterator[int]:
    folder.mkdir(exist_ok=True)
    total = 0
    for number, first in enumerate(crystals):
        shard = chain([first], islice(crystals, SHARD_ROWS - 1))
        written = 0
        for written in _write_parquet(folder / f"part-{number:06d}.parquet", shard, provenance):
            yield total + written
        total += written


def _write_text(path: Path, texts: Iterable[str]) -> Iterator[int]:
    number = 0
    with replacing(path) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        for number, text in enumerate(texts, start=1):
            file.write(text)
            if number % _GROUP_ROWS == 0:
                yield number
    yield number


def _write_parquet(path: Path, crystals: Iterator[Crystal], provenance: Mapping[str, Any]) -> Iterator[int]:
    pa = optional_import("pyarrow", extra="cli", purpose="write Parquet files")
    parquet = optional_import("pyarrow.parquet", extra="cli", purpose="write Parquet files")
    schema = _schema(pa, provenance)
    number = 0
    with replacing(path) as unfinished, parquet.ParquetWriter(unfinished, schema, compression="zstd") as writer:
        while group := list(islice(crystals, _GROUP_ROWS)):
            writer.write_table(pa.Table.from_arrays(_columns(pa, schema, group), schema=schema))
            number += len(group)
            yield number


def _schema(pa: Any, provenance: Mapping[str, Any]) -> Any:
    vectors = pa.list_(pa.list_(pa.float64()))
    columns = [
        ("id", pa.string(), "hash of parent and substitution"),
        ("formula", pa.string(), "reduced formula"),
        ("nsites", pa.int64(), "number of atoms"),
        ("lattice_vectors", vectors, "lattice vectors as rows, Angstrom"),
        ("cartesian_site_positions", vectors, "positions, Angstrom"),
        ("species_at_sites", pa.list_(pa.string()), "element of each atom"),
        ("dimension_types", pa.list_(pa.int64()), "1 for each periodic direction"),
        *((name, pa.string(), text) for name, text in _TEXTS.items()),
        *((name, pa.float64(), text) for name, text in _NUMBERS.items()),
    ]
    fields = [pa.field(name, type, metadata={"description": text}) for name, type, text in columns]
    return pa.schema(fields, metadata={"dtnn_fast candidates 1": json.dumps(dict(provenance))})


def _columns(pa: Any, schema: Any, crystals: Sequence[Crystal]) -> list[Any]:
    """Make the columns of a row group, in the order of the schema."""
    counts = [crystal.num_atoms for crystal in crystals]
    numbers = np.concatenate([crystal.atomic_numbers for crystal in crystals])
    values: dict[str, Any] = {
        "id": [crystal.id for crystal in crystals],
        "formula": [crystal.formula for crystal in crystals],
        "nsites": counts,
        "lattice_vectors": _lists(pa, _vectors(pa, [c.cell for c in crystals]), [3] * len(crystals)),
        "cartesian_site_positions": _lists(pa, _vectors(pa, [c.positions for c in crystals]), counts),
        "species_at_sites": _lists(pa, pa.array(SYMBOLS).take(pa.array(numbers)), counts),
        "dimension_types": _lists(pa, pa.array(np.ones(3 * len(crystals), dtype=np.int64)), [3] * len(crystals)),
    }
    for name in (*_TEXTS, *_NUMBERS):
        values[name] = [crystal.info[name] for crystal in crystals]
    return [
        values[field.name] if isinstance(values[field.name], pa.Array) else pa.array(values[field.name], field.type)
        for field in schema
    ]


def _vectors(pa: Any, arrays: Sequence[np.ndarray]) -> Any:
    joined = np.concatenate(arrays)
    return _lists(pa, pa.array(joined.ravel()), [3] * len(joined))


def _lists(pa: Any, values: Any, lengths: Sequence[int]) -> Any:
    return pa.ListArray.from_arrays(pa.array(np.cumsum([0, *lengths]), pa.int32()), values)


def _json_line(crystal: Crystal) -> str:
    return json.dumps(json_row(crystal)) + "\n"


def _cif_block(crystal: Crystal) -> str:
    """Write a crystal as a block of a CIF, without symmetry."""
    lengths = np.linalg.norm(crystal.cell, axis=1)
    a, b, c = crystal.cell / lengths[:, None]
    angles = np.degrees(np.arccos([b @ c, a @ c, a @ b]))
    lines = [f"data_{crystal.id}", *(f"# {name}: {value}" for name, value in crystal.info.items())]
    lines += [f"_cell_length_{name} {value:.8f}" for name, value in zip("abc", lengths, strict=True)]
    lines += [f"_cell_angle_{name} {value:.8f}" for name, value in zip(("alpha", "beta", "gamma"), angles, strict=True)]
    lines += ["_space_group_name_H-M_alt 'P 1'", "loop_", "_space_group_symop_operation_xyz", "'x, y, z'", "loop_"]
    lines += [f"_atom_site_{name}" for name in ("label", "type_symbol", "fract_x", "fract_y", "fract_z")]
    fractional = crystal.positions @ np.linalg.inv(crystal.cell)
    for number, (z, place) in enumerate(zip(crystal.atomic_numbers.tolist(), fractional.tolist(), strict=True)):
        element = SYMBOLS[z]
        lines.append(f"{element}{number} {element} " + " ".join(f"{value:.10f}" for value in place))
    return "\n".join(lines) + "\n\n"

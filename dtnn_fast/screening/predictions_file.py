# SPDX-License-Identifier: MIT
"""The Parquet file of predicted crystals, whose columns have descriptions and units."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..errors import optional_import
from .store import DESCRIPTIONS, ERROR_DESCRIPTIONS, ScreenedCrystals

_DESCRIPTIONS_OF_CRYSTALS = {
    "lattice_vectors": "lattice vectors a, b and c as three rows: the Cartesian frame of the tensors. A CIF has no "
    "such frame: c is along z, and a in the plane of x and z",
    "labelled": "whether the crystal is one of the bundled crystals with tensors from DFPT, by its structure",
    "atomic_numbers": "atomic number of each atom, in the order of the atoms in the file; a CIF's atoms as pymatgen "
    "lists them",
    "positions": "Cartesian position of each atom, in the frame of lattice_vectors",
    "born_charges": "Born effective charge of each atom as three rows: [atom][field][displacement], in the Cartesian "
    "frame of lattice_vectors, in the order of atomic_numbers; they sum to zero",
}
_UNITS_OF_CRYSTALS = {"lattice_vectors": "Angstrom", "positions": "Angstrom", "born_charges": "e"}


def write_parquet(path: Path, screened: ScreenedCrystals, model_name: str) -> None:
    """Write all columns in the order of the input, with units and descriptions as metadata.

    Args:
        path: of the file.
        screened: what to write.
        model_name: recorded in the file.

    Raises:
        MissingPackageError: pyarrow is not installed.
    """
    pa = optional_import("pyarrow", extra="cli", purpose="write predictions.parquet")
    parquet = optional_import("pyarrow.parquet", extra="cli", purpose="write predictions.parquet")
    columns = screened.columns()
    plain_types = {
        "num_atoms": pa.int64(),
        **dict.fromkeys(("id", "formula", "source", "crystal_system"), pa.string()),
        "lattice_vectors": pa.list_(pa.list_(pa.float64())),
        "labelled": pa.bool_(),
        **dict.fromkeys(("warnings", "warning_codes"), pa.string()),
        "atomic_numbers": pa.list_(pa.int64()),
        "positions": pa.list_(pa.list_(pa.float64())),
        "born_charges": pa.list_(pa.list_(pa.list_(pa.float64()))),
    }
    descriptions = {**DESCRIPTIONS, **ERROR_DESCRIPTIONS}
    fields = []
    for name in columns:
        if name in plain_types:
            texts = {"description": _DESCRIPTIONS_OF_CRYSTALS.get(name), "unit": _UNITS_OF_CRYSTALS.get(name)}
            metadata = {key: text for key, text in texts.items() if text}
            fields.append(pa.field(name, plain_types[name], metadata=metadata or None))
            continue
        target, _, number = name.partition("_")
        metadata = {"description": f"{target}: {descriptions[number]}", "unit": "1 (relative permittivity)"}
        fields.append(pa.field(name, pa.float64(), metadata=metadata))
    file_metadata = {
        "dtnn_fast_version": __version__,
        "model": model_name,
        "unit": "relative permittivity, dimensionless; tensors in the Cartesian frame of the cell",
    }
    arrays = [
        _nested_lists(pa, columns[field.name], field.type)
        if pa.types.is_list(field.type)
        else pa.array(columns[field.name], type=field.type)
        for field in fields
    ]
    parquet.write_table(pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=file_metadata)), path)


def _nested_lists(pa: Any, arrays: Sequence[np.ndarray], type: Any) -> Any:
    """Make a column of lists, with a list in it for each further dimension.

    pyarrow takes no arrays of several dimensions, and Python's numbers would need ten times the memory.

    Args:
        pa: pyarrow.
        arrays: the values of each crystal. [N, ...] each, of the same shape behind N.
        type: the column's type.
    """
    joined = np.concatenate(arrays)
    while pa.types.is_list(type):
        type = type.value_type
    column = pa.array(joined.ravel(), type=type)
    for size in reversed(joined.shape[1:]):
        column = pa.ListArray.from_arrays(pa.array(np.arange(0, len(column) + 1, size), pa.int32()), column)
    ends = np.cumsum([0, *(len(values) for values in arrays)])
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), column)

# SPDX-License-Identifier: MIT
"""Predicted crystals as a table of Arrow, whose columns have descriptions and units, and as a Parquet file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..errors import optional_import
from . import kept_columns
from .store import DESCRIPTIONS, ERROR_DESCRIPTIONS, PUBLISHED_MEAN, ScreenedCrystals

_PURPOSE = "write Parquet files"
_DESCRIPTIONS_OF_CRYSTALS = {
    "space_group": "international number of the space group, found within 0.1 Angstrom",
    "prototype": "structure type: letters for the elements, space group, and for each element the atoms in the "
    "primitive cell and their site symmetry",
    "duplicate_of": "id of an earlier crystal with the same structure",
    "lattice_vectors": "lattice vectors a, b and c as three rows: the Cartesian frame of the tensors. A CIF has no "
    "such frame: c is along z, and a in the plane of x and z",
    "species_at_sites": "element of each atom, in the order of the atoms in the file; a CIF's atoms as pymatgen lists "
    "them",
    "cartesian_site_positions": "Cartesian position of each atom, in the frame of lattice_vectors",
    "labelled": "whether the crystal is one of the bundled crystals with tensors from DFPT, by its structure",
    "training_distance": "distance to the nearest training crystal, over the distance that 99 % of the training "
    "crystals have from each other: above 1 the crystal is unlike all of them",
    "refractive_index": "square root of the mean electronic permittivity",
    "atomic_numbers": "atomic number of each atom, in the order of species_at_sites",
    "positions": "Cartesian position of each atom, in the frame of lattice_vectors",
    "born_charges": "Born effective charge of each atom as three rows: [atom][field][displacement], in the Cartesian "
    "frame of lattice_vectors, in the order of atomic_numbers; they sum to zero",
    **kept_columns.DESCRIPTIONS,
}
_UNITS_OF_CRYSTALS = {
    **dict.fromkeys(("lattice_vectors", "cartesian_site_positions", "positions"), "Angstrom"),
    "born_charges": "e",
    "refractive_index": "1",
    **kept_columns.UNITS,
}


def arrow_table(screened: ScreenedCrystals, model_name: str, metadata: Mapping[str, str] | None = None) -> Any:
    """Make a table of all columns in the order of the input, with units and descriptions as metadata.

    Args:
        screened: what to write.
        model_name: recorded in the table.
        metadata: more to record.

    Returns:
        A `pyarrow.Table`.

    Raises:
        MissingPackageError: pyarrow is not installed.
    """
    pa = optional_import("pyarrow", extra="cli", purpose=_PURPOSE)
    columns = screened.columns()
    types = _column_types(pa)
    published = "mean permittivity that the source states"
    descriptions = {**DESCRIPTIONS, **ERROR_DESCRIPTIONS, PUBLISHED_MEAN: published}
    fields, arrays = [], []
    for name, values in columns.items():
        target, _, number = name.partition("_")
        texts: dict[str, str | None]
        if target in screened.targets and number in descriptions:
            texts = {"description": f"{target}: {descriptions[number]}", "unit": "1 (relative permittivity)"}
            type = pa.float64()
        else:
            texts = {"description": _DESCRIPTIONS_OF_CRYSTALS.get(name), "unit": _UNITS_OF_CRYSTALS.get(name)}
            type = types.get(name)
        # Columns of the source have the type of their values. NaN stands for no value.
        is_nested = type is not None and _depth(pa, type) > 0
        array = _nested_lists(pa, values, type) if is_nested else pa.array(values, type, from_pandas=True)
        metadata_of_field = {key: text for key, text in texts.items() if text}
        fields.append(pa.field(name, array.type, metadata=metadata_of_field or None))
        arrays.append(array)
    about = {
        "dtnn_fast_version": __version__,
        "model": model_name,
        "unit": "relative permittivity, dimensionless; tensors in the Cartesian frame of the cell",
        **(metadata or {}),
    }
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=about))


def write_parquet(path: Path, screened: ScreenedCrystals, model_name: str) -> None:
    """Write the table of `arrow_table` as one Parquet file.

    Args:
        path: of the file.
        screened: what to write.
        model_name: recorded in the file.

    Raises:
        MissingPackageError: pyarrow is not installed.
    """
    parquet = optional_import("pyarrow.parquet", extra="cli", purpose=_PURPOSE)
    parquet.write_table(arrow_table(screened, model_name), path)


def _column_types(pa: Any) -> dict[str, Any]:
    def lists(type: Any, depth: int) -> Any:
        return lists(pa.list_(type), depth - 1) if depth else type

    return {
        "num_atoms": pa.int64(),
        "space_group": pa.int32(),
        **dict.fromkeys(("id", "formula", "source", "crystal_system", "prototype", "duplicate_of"), pa.string()),
        "lattice_vectors": lists(pa.float64(), 2),
        "species_at_sites": lists(pa.string(), 1),
        "cartesian_site_positions": lists(pa.float64(), 2),
        "labelled": pa.bool_(),
        **dict.fromkeys(("warnings", "warning_codes"), pa.string()),
        "atomic_numbers": lists(pa.int64(), 1),
        "positions": lists(pa.float64(), 2),
        "born_charges": lists(pa.float64(), 3),
        **dict.fromkeys(("training_distance", "refractive_index", *kept_columns.NUMBERS), pa.float64()),
        "license": pa.string(),
    }


def _depth(pa: Any, type: Any) -> int:
    return 1 + _depth(pa, type.value_type) if pa.types.is_list(type) else 0


def _nested_lists(pa: Any, arrays: Sequence[Any], type: Any) -> Any:
    """Make a column of lists, with a list in it for each further dimension.

    pyarrow takes no arrays of several dimensions, and Python's numbers would need ten times the memory.

    Args:
        pa: pyarrow.
        arrays: the values of each crystal. [N, ...] each, of the same shape behind N.
        type: the column's type.
    """
    if not len(arrays):
        return pa.array([], type)
    joined = np.concatenate([np.asarray(values) for values in arrays])
    while pa.types.is_list(type):
        type = type.value_type
    column = pa.array(joined.ravel(), type=type)
    for size in reversed(joined.shape[1:]):
        column = pa.ListArray.from_arrays(pa.array(np.arange(0, len(column) + 1, size), pa.int32()), column)
    ends = np.cumsum([0, *(len(values) for values in arrays)])
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), column)

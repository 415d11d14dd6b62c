# SPDX-License-Identifier: MIT
"""Table of predicted crystals, and its Parquet file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..crystals.crystal import Crystal
from ..errors import optional_import
from ..symmetry import known_crystal_system

# The six unique elements of a symmetric tensor, in the order of docs/conventions.md.
TENSOR_ELEMENTS = {"xx": (0, 0), "yy": (1, 1), "zz": (2, 2), "yz": (1, 2), "xz": (0, 2), "xy": (0, 1)}
PRINCIPAL_VALUES = ("e1", "e2", "e3")
DESCRIPTIONS = {
    **{
        name: f"element {name} of the relative permittivity, in the Cartesian frame of the cell"
        for name in TENSOR_ELEMENTS
    },
    "mean": "mean relative permittivity, a third of the trace",
    "e1": "smallest principal value (eigenvalue)",
    "e2": "middle principal value",
    "e3": "largest principal value",
    "anisotropy": "largest minus smallest principal value, e3 - e1",
}
# Column of the error bar, which an ensemble gives.
ERROR_BAR = "error"
ERROR_BAR_DESCRIPTION = "error bar: nine of ten crystals have the mean absolute error of their six elements below it"


@dataclass(frozen=True)
class ScreenedCrystals:
    """Crystals with their predicted tensors; all fields have one entry per crystal.

    Args:
        ids: names.
        formulas: reduced formulas.
        sources: files or data sets.
        systems: crystal systems, None where unknown.
        num_atoms: atoms in the cell. [B], int64.
        tensors: predicted relative permittivity by target. [B, 3, 3] each, float64.
        known: published tensors by target, NaN where there is none. [B, 3, 3] each, float64.
        errors: error bars by target, if the model has them; see `DTNN.predict_with_errors`. [B] each, float64.
    """

    ids: list[str]
    formulas: list[str]
    sources: list[str]
    systems: list[str | None]
    num_atoms: np.ndarray
    tensors: dict[str, np.ndarray]
    known: dict[str, np.ndarray]
    errors: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(
        cls,
        crystals: Sequence[Crystal],
        tensors: Mapping[str, np.ndarray],
        errors: Mapping[str, np.ndarray] | None = None,
    ) -> ScreenedCrystals:
        """Make the table of crystals, their predicted tensors and error bars."""
        unknown = np.full((3, 3), np.nan)
        return cls(
            [crystal.id for crystal in crystals],
            [crystal.formula for crystal in crystals],
            [crystal.source for crystal in crystals],
            [known_crystal_system(crystal) for crystal in crystals],
            np.array([crystal.num_atoms for crystal in crystals], dtype=np.int64),
            dict(tensors),
            {
                target: np.array([c.targets.get(target, unknown) for c in crystals]).reshape(-1, 3, 3)
                for target in tensors
            },
            dict(errors or {}),
        )

    @classmethod
    def join(cls, tables: Sequence[ScreenedCrystals]) -> ScreenedCrystals:
        """Concatenate tables, at least one."""
        first = tables[0]
        return cls(
            [id for table in tables for id in table.ids],
            [formula for table in tables for formula in table.formulas],
            [source for table in tables for source in table.sources],
            [system for table in tables for system in table.systems],
            np.concatenate([table.num_atoms for table in tables]),
            {target: np.concatenate([table.tensors[target] for table in tables]) for target in first.tensors},
            {target: np.concatenate([table.known[target] for table in tables]) for target in first.known},
            {target: np.concatenate([table.errors[target] for table in tables]) for target in first.errors},
        )

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the predicted tensors."""
        return tuple(self.tensors)

    def columns(self) -> dict[str, Any]:
        """Return the columns that are written: names, and for each target those of `tensor_columns`."""
        columns: dict[str, Any] = {
            "id": self.ids,
            "formula": self.formulas,
            "source": self.sources,
            "num_atoms": self.num_atoms,
            "crystal_system": self.systems,
        }
        for target, tensors in self.tensors.items():
            columns |= {f"{target}_{name}": values for name, values in tensor_columns(tensors).items()}
            if target in self.errors:
                columns[f"{target}_{ERROR_BAR}"] = self.errors[target]
        return columns


def tensor_columns(tensors: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the numbers that are listed for symmetric tensors; `DESCRIPTIONS` explains each.

    Args:
        tensors: [B, 3, 3], float64.

    Returns:
        [B] for each name of `DESCRIPTIONS`.
    """
    principal = np.linalg.eigvalsh(tensors)
    columns = {name: tensors[:, row, column] for name, (row, column) in TENSOR_ELEMENTS.items()}
    columns["mean"] = np.trace(tensors, axis1=1, axis2=2) / 3.0
    columns |= {name: principal[:, place] for place, name in enumerate(PRINCIPAL_VALUES)}
    columns["anisotropy"] = principal[:, 2] - principal[:, 0]
    return columns


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
    plain_types = {"num_atoms": pa.int64(), **dict.fromkeys(("id", "formula", "source", "crystal_system"), pa.string())}
    descriptions = {**DESCRIPTIONS, ERROR_BAR: ERROR_BAR_DESCRIPTION}
    fields = []
    for name in columns:
        if name in plain_types:
            fields.append(pa.field(name, plain_types[name]))
            continue
        target, _, number = name.partition("_")
        metadata = {"description": f"{target}: {descriptions[number]}", "unit": "1 (relative permittivity)"}
        fields.append(pa.field(name, pa.float64(), metadata=metadata))
    file_metadata = {
        "dtnn_fast_version": __version__,
        "model": model_name,
        "unit": "relative permittivity, dimensionless; tensors in the Cartesian frame of the cell",
    }
    arrays = [pa.array(columns[field.name], type=field.type) for field in fields]
    parquet.write_table(pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=file_metadata)), path)

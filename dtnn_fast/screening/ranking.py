# SPDX-License-Identifier: MIT
"""The order of predicted crystals, and the tables that are written of them."""

from __future__ import annotations

import csv
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..errors import optional_import
from .store import DESCRIPTIONS, ERROR, ERROR_DESCRIPTION, PRINCIPAL, Predictions

RANKED_NUMBERS = ("mean", *PRINCIPAL, "anisotropy")


def main_target(targets: Sequence[str]) -> str:
    """What is ranked by when nothing else is said: the total tensor if the model predicts it."""
    return "total" if "total" in targets else targets[-1]


def sort_columns(targets: Sequence[str]) -> list[str]:
    """Names of the columns that can be ranked by."""
    return [f"{target}_{name}" for target in targets for name in DESCRIPTIONS]


def resolve_sort_column(name: str, targets: Sequence[str]) -> str:
    """Turn "mean" into "total_mean" and the like.

    Raises:
        ValueError: the model gives no such column.
    """
    full = f"{main_target(targets)}_{name}" if name in DESCRIPTIONS else name
    if full not in sort_columns(targets):
        names = ", ".join(RANKED_NUMBERS)
        raise ValueError(f"expected one of {names}, alone or after {', '.join(t + '_' for t in targets)}; got {name!r}")
    return full


def rank(columns: dict[str, Any], by: str, lowest_first: bool = False) -> np.ndarray:
    """The order of the rows by one column; equal ones keep their order.

    Args:
        columns: of `Predictions.columns`.
        by: name of a column of numbers.
        lowest_first: small values first instead of large ones.

    Returns:
        Indices of the rows. [B], int64.
    """
    values = np.asarray(columns[by])
    return np.argsort(values if lowest_first else -values, kind="stable")


def write_ranking(
    path: Path, columns: dict[str, Any], order: np.ndarray, targets: Sequence[str], labelled: Collection[str]
) -> None:
    """Write the ranked crystals as CSV.

    Args:
        path: of the file.
        columns: of `Predictions.columns`.
        order: of `rank`.
        targets: of the model.
        labelled: ids of crystals whose tensors were known before.
    """
    names = [f"{target}_{name}" for target in targets for name in (*RANKED_NUMBERS, ERROR)]
    numbers = [name for name in names if name in columns]
    texts = ["id", "formula", "crystal_system", "num_atoms", "source"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["rank", *texts, "labelled", *numbers])
        for place, row in enumerate(order.tolist(), start=1):
            head = ["" if columns[name][row] is None else columns[name][row] for name in texts]
            is_labelled = str(columns["id"][row] in labelled).lower()
            writer.writerow([place, *head, is_labelled, *(f"{columns[name][row]:.4f}" for name in numbers)])


def write_parquet(path: Path, predictions: Predictions, model_name: str) -> None:
    """Write everything that was predicted, in the order of the input, with units and descriptions as metadata.

    Args:
        path: of the file.
        predictions: what to write.
        model_name: recorded in the file.

    Raises:
        MissingPackageError: pyarrow is not installed.
    """
    pa = optional_import("pyarrow", extra="cli", purpose="write predictions.parquet")
    parquet = optional_import("pyarrow.parquet", extra="cli", purpose="write predictions.parquet")
    columns = predictions.columns()
    kinds = {"num_atoms": pa.int64(), **dict.fromkeys(("id", "formula", "source", "crystal_system"), pa.string())}
    meanings = {**DESCRIPTIONS, ERROR: ERROR_DESCRIPTION}
    fields = []
    for name in columns:
        described = {}
        if name not in kinds:
            target, _, number = name.partition("_")
            described = {"description": f"{target}: {meanings[number]}", "unit": "1 (relative permittivity)"}
        fields.append(pa.field(name, kinds.get(name, pa.float64()), metadata=described or None))
    metadata = {
        "dtnn_fast_version": __version__,
        "model": model_name,
        "unit": "relative permittivity, dimensionless; tensors in the Cartesian frame of the cell",
    }
    arrays = [pa.array(columns[field.name], type=field.type) for field in fields]
    parquet.write_table(pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=metadata)), path)

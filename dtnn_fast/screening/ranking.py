# SPDX-License-Identifier: MIT
"""Ranking of predicted crystals by one number, and its CSV file."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .crystal_warnings import UNRELIABLE
from .store import DESCRIPTIONS, MEAN_ERROR, PRINCIPAL_VALUES, TENSOR_ERROR

RANKED_NUMBERS = ("mean", *PRINCIPAL_VALUES, "anisotropy")
_WARNING_COLUMNS = ("warnings", "warning_codes")


def main_target(targets: Sequence[str]) -> str:
    """Return the target that is ranked by default: the total tensor if the model predicts it."""
    return "total" if "total" in targets else targets[-1]


def sort_columns(targets: Sequence[str]) -> list[str]:
    """List the columns that crystals can be ranked by."""
    return [f"{target}_{name}" for target in targets for name in DESCRIPTIONS]


def resolve_sort_column(name: str, targets: Sequence[str]) -> str:
    """Complete a short name: "mean" becomes "total_mean" and the like.

    Raises:
        ValueError: the model does not predict such a column.
    """
    column = f"{main_target(targets)}_{name}" if name in DESCRIPTIONS else name
    if column not in sort_columns(targets):
        numbers, prefixes = ", ".join(RANKED_NUMBERS), ", ".join(f"{target}_" for target in targets)
        raise ValueError(f"expected one of {numbers}, alone or after {prefixes}; got {name!r}")
    return column


def is_unreliable(columns: dict[str, Any]) -> np.ndarray:
    """Find the crystals with a warning that the prediction means nothing, one of `UNRELIABLE`. [B], bool.

    Args:
        columns: of `ScreenedCrystals.columns`.
    """
    return np.array([not UNRELIABLE.isdisjoint(codes.split()) for codes in columns["warning_codes"]], dtype=bool)


def rank(columns: dict[str, Any], by: str, lowest_first: bool = False, unreliable_last: bool = False) -> np.ndarray:
    """Order the rows by one column; rows with equal values keep their order.

    Args:
        columns: of `ScreenedCrystals.columns`.
        by: name of a column of numbers.
        lowest_first: small values first instead of large values.
        unreliable_last: crystals of `is_unreliable` come behind all others.

    Returns:
        Row indices from the first rank. [B], int64.
    """
    values = np.asarray(columns[by])
    order = np.argsort(values if lowest_first else -values, kind="stable")
    return order[np.argsort(is_unreliable(columns)[order], kind="stable")] if unreliable_last else order


def write_ranking(path: Path, columns: dict[str, Any], order: np.ndarray, targets: Sequence[str]) -> None:
    """Write the ranked crystals as CSV.

    Args:
        path: of the file.
        columns: of `ScreenedCrystals.columns`.
        order: row indices from the first rank; see `rank`. [B].
        targets: of the model.
    """
    names = ("mean", MEAN_ERROR, *RANKED_NUMBERS[1:], TENSOR_ERROR)
    possible = [f"{target}_{name}" for target in targets for name in names]
    numbers = [name for name in possible if name in columns]
    texts = ["id", "formula", "crystal_system", "num_atoms", "source"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["rank", *texts, "labelled", *numbers, *_WARNING_COLUMNS])
        for place, row in enumerate(order.tolist(), start=1):
            text_cells = ["" if columns[name][row] is None else columns[name][row] for name in texts]
            is_labelled = str(bool(columns["labelled"][row])).lower()
            number_cells = [f"{columns[name][row]:.4f}" for name in numbers]
            warning_cells = [columns[name][row] for name in _WARNING_COLUMNS]
            writer.writerow([place, *text_cells, is_labelled, *number_cells, *warning_cells])

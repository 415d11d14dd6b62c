# SPDX-License-Identifier: MIT
"""The numbers of tables and figures as CSV files."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..training.metrics import METRICS
from .comparison import MEDIAN_ERROR, ModelErrors


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file; floats with six significant digits."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row] for row in rows)


def write_errors(path: Path, models: Sequence[ModelErrors]) -> None:
    """Write every mean and deviation: one row for each model, target, group of crystals and error."""
    header = ["target", "model", "layer", "crystals", "tested_a_split", "error", "mean", "std", "splits"]
    rows: list[list[Any]] = []
    for model in models:
        layer = "" if model.layer is None else model.layer
        for group, errors in model.errors.items():
            for metric in (*METRICS, MEDIAN_ERROR):
                spread = errors[metric]
                start = [model.target, model.name, layer, group, float(model.counts[group]), metric]
                rows.append([*start, spread.mean, spread.std, spread.splits])
    write_csv(path, header, rows)

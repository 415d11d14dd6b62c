# SPDX-License-Identifier: MIT
"""Tables of errors, for the terminal and for Markdown."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..symmetry import CRYSTAL_SYSTEMS, UNKNOWN
from ..training.metrics import METRICS
from .comparison import MEDIAN_ERROR, PAPER_RATIOS, ModelErrors, Ratio, Spread

METRIC_NAMES = {
    "mae_ten": "MAE_ten",
    "mae_mean_diag": "MAE_mean-diag",
    "mae_diag": "MAE_diag",
    "mae_off_diag": "MAE_off-diag",
    MEDIAN_ERROR: "median of MAE_ten",
}
# From the most to the least symmetric, then what no symmetry was found for.
SYSTEMS = (*reversed(CRYSTAL_SYSTEMS), UNKNOWN)
INCOMPLETE = "*"


@dataclass(frozen=True)
class Cell:
    """Text, and whether it is the best of those that it is compared with."""

    text: str
    best: bool = False


@dataclass
class ErrorTable:
    """A table whose first column is text.

    Args:
        title: above it.
        header: of the columns.
        rows: of as many cells.
        notes: below it.
        is_numeric: whether the other columns are numbers, which stand at the right.
    """

    title: str
    header: list[str]
    rows: list[list[Cell]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    is_numeric: bool = True


def _cells(models: Sequence[ModelErrors], spreads: Sequence[Spread | None]) -> list[Cell]:
    """A cell for each model; what reads the same as the smallest number is the best too.

    Models that lack splits were tested on other crystals, and the median is only a measure: neither is the best.
    """
    shown = [
        round(spread.mean, 2) if spread is not None and model.complete and model.kind != "median" else None
        for model, spread in zip(models, spreads, strict=True)
    ]
    compared = [value for value in shown if value is not None]
    lowest = min(compared) if len(compared) > 1 else None
    return [
        Cell("-" if spread is None else str(spread), value is not None and value == lowest)
        for spread, value in zip(spreads, shown, strict=True)
    ]


def _headings(models: Sequence[ModelErrors]) -> list[str]:
    return [model.name + ("" if model.complete else INCOMPLETE) for model in models]


def _notes(models: Sequence[ModelErrors], target: str) -> list[str]:
    columns = [model for model in models if model.target == target]
    splits = max(len(model.seeds) for model in columns)
    return [
        f"{INCOMPLETE} {model.name} has {len(model.seeds)} of {splits} splits for {target}: not compared"
        for model in columns
        if not model.complete
    ]


def overview_table(models: Sequence[ModelErrors], targets: Sequence[str]) -> ErrorTable:
    """One row for each model: MAE_ten on all test crystals, mean and median over the crystals, for each target."""
    header = [*targets, *(f"{target}, median error" for target in targets)]
    table = ErrorTable("MAE_ten on all test crystals", ["model", *header])
    rows = {model.name: [Cell(model.name)] for model in models}
    for metric in ("mae_ten", MEDIAN_ERROR):
        for target in targets:
            column = {model.name: model for model in models if model.target == target}
            cells = _cells(list(column.values()), [model.errors["all"][metric] for model in column.values()])
            found = {
                model.name: replace(cell, text=cell.text + ("" if model.complete else INCOMPLETE))
                for model, cell in zip(column.values(), cells, strict=True)
            }
            for name, row in rows.items():
                row.append(found.get(name, Cell("-")))
    table.rows = list(rows.values())
    table.notes = list(dict.fromkeys(note for target in targets for note in _notes(models, target)))
    return table


def system_table(models: Sequence[ModelErrors], target: str) -> ErrorTable:
    """Table 2 of arXiv 2405.09052 for one target: MAE_ten by crystal system and of all, and the median error.

    Args:
        models: of all targets, the median among them.
        target: of the table.
    """
    those = [model for model in models if model.target == target]
    counts = next(model for model in those if model.complete).counts
    groups = [group for group in (*SYSTEMS, "all") if group in counts]
    columns = {
        f"{group} ({counts[group]:.1f})": [
            model.errors[group]["mae_ten"] if group in model.errors else None for model in those
        ]
        for group in groups
    }
    columns["all, median"] = [model.errors["all"][MEDIAN_ERROR] for model in those]
    table = _by_model(f"{target}: MAE_ten by crystal system", those, columns)
    table.notes = ["in brackets: how many crystals are tested in a split, in the mean", *_notes(models, target)]
    return table


def _by_model(title: str, models: Sequence[ModelErrors], columns: Mapping[str, Sequence[Spread | None]]) -> ErrorTable:
    """A row for each model, as there may be many of them; the best is that of a column."""
    table = ErrorTable(title, ["model", *columns])
    cells = [_cells(models, spreads) for spreads in columns.values()]
    for place, heading in enumerate(_headings(models)):
        table.rows.append([Cell(heading), *(column[place] for column in cells)])
    return table


def metric_table(models: Sequence[ModelErrors], target: str) -> ErrorTable:
    """The four errors of arXiv 2405.09052, Eq. 3 to 6, on all test crystals."""
    those = [model for model in models if model.target == target]
    columns = {METRIC_NAMES[metric]: [model.errors["all"][metric] for model in those] for metric in METRICS}
    table = _by_model(f"{target}: the four errors on all test crystals", those, columns)
    table.notes = _notes(models, target)
    return table


def ratio_table(ratios: Sequence[Ratio]) -> ErrorTable:
    """MAE_ten of our models over the best baseline's, beside the ratios of the paper."""
    targets = [target for target in PAPER_RATIOS if any(ratio.target == target for ratio in ratios)]
    values = {(ratio.name, ratio.target): ratio for ratio in ratios}
    table = ErrorTable("MAE_ten over that of the best baseline, all test crystals", ["model", *targets])
    for name in dict.fromkeys(ratio.name for ratio in ratios):
        row = [Cell(name)]
        for target in targets:
            ratio = values.get((name, target))
            text = "-" if ratio is None else f"{ratio.value:.2f} ({ratio.baseline})"
            row.append(Cell(text, best=ratio is not None and ratio.value < 1.0))
        table.rows.append(row)
    paper = [Cell(f"{PAPER_RATIOS[target]:.2f}") for target in targets]
    table.rows.append([Cell("DTNN in arXiv 2405.09052"), *paper])
    return table


def layer_table(name: str, models: Sequence[ModelErrors]) -> ErrorTable:
    """The layer ablation of one model (Fig. 5a of arXiv 2405.09052): validation and test errors of each encoder layer.

    Args:
        name: of the model.
        models: one for each layer and target, each target on the same splits.
    """
    targets = list(dict.fromkeys(model.target for model in models))
    header = ["encoder layer", *(f"{target}, {part}" for target in targets for part in ("validation", "test"))]
    table = ErrorTable(f"{name}: MAE_ten by encoder layer", header)
    found = {(model.layer, model.target): model for model in models}
    best = {target: min(m.validation.mean for m in models if m.target == target) for target in targets}
    for layer in sorted({model.layer for model in models if model.layer is not None}):
        row = [Cell(str(layer))]
        for target in targets:
            model = found.get((layer, target))
            if model is None:
                row += [Cell("-"), Cell("-")]
            else:
                is_best = model.validation.mean == best[target]
                row += [Cell(str(model.validation), is_best), Cell(str(model.errors["all"]["mae_ten"]))]
        table.rows.append(row)
    splits = {target: len(model.seeds) for target in targets for model in models if model.target == target}
    listed = ", ".join(f"{target} {count}" for target, count in splits.items())
    table.notes = [f"splits: {listed}", "the layer with the lowest validation error stands in the other tables"]
    return table


def to_markdown(table: ErrorTable, level: int = 3) -> str:
    """A heading, the table with the best in bold, and its notes.

    Args:
        table: what to write.
        level: of the heading.
    """
    lines = [f"{'#' * level} {table.title}", ""]
    lines.append(_line([_escape(name) for name in table.header]))
    others = "| ---: " if table.is_numeric else "| --- "
    lines.append("| --- " + others * (len(table.header) - 1) + "|")
    lines += [_line([_cell(cell) for cell in row]) for row in table.rows]
    if table.notes:
        lines += ["", "; ".join(_escape(note) for note in table.notes) + "."]
    return "\n".join(lines)


def _cell(cell: Cell) -> str:
    text = _escape(cell.text)
    return f"**{text}**" if cell.best else text


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


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

# SPDX-License-Identifier: MIT
"""Tables of errors, which the terminal and the page of results show, and their numbers as CSV."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..symmetry import CRYSTAL_SYSTEMS, UNKNOWN
from ..training.metrics import HIGH_PERMITTIVITY, METRICS, RANKING_METRICS
from .charge_tables import charge_table
from .comparison import MEDIAN_ERROR, PAPER_RATIOS, ModelErrors, Ratio, Spread
from .error_table import Cell, ErrorTable
from .evaluation import Evaluation
from .runs import Run

METRIC_NAMES = {
    "mae_ten": "MAE_ten",
    "mae_mean_diag": "MAE_mean-diag",
    "mae_diag": "MAE_diag",
    "mae_off_diag": "MAE_off-diag",
    MEDIAN_ERROR: "median of MAE_ten",
}
# From the most to the least symmetric, then crystals whose symmetry is not known.
SYSTEMS = (*reversed(CRYSTAL_SYSTEMS), UNKNOWN)
INCOMPLETE_MARK = "*"


def tables_by_section(evaluation: Evaluation) -> dict[str, list[ErrorTable]]:
    """Make all tables of errors, by the title of their section."""
    errors, targets = evaluation.errors, evaluation.targets
    sections = {
        "All crystals": [overview_table(errors, targets)],
        "Crystal systems": [system_table(errors, target) for target in targets],
        "The four errors": [metric_table(errors, target) for target in targets],
    }
    sections["Ranking"] = [ranking_table(errors, target) for target in targets]
    if evaluation.ratios:
        sections["Against the best baseline"] = [ratio_table(evaluation.ratios)]
    if evaluation.ablations:
        sections["Encoder layers"] = [layer_table(name, models) for name, models in evaluation.ablations.items()]
    coverages = [table for target in targets if (table := coverage_table(evaluation, target)).rows]
    if coverages:
        sections["Error bars"] = coverages
    charges = _charge_tables(evaluation.runs)
    if charges:
        sections["Born effective charges"] = charges
    return sections


def _charge_tables(runs: Sequence[Run]) -> list[ErrorTable]:
    """Make the table of each model, and of each of its layers, whose runs have errors of Born charges."""
    by_model: dict[tuple[str, int | None], list[Run]] = {}
    for run in runs:
        by_model.setdefault((run.model, run.layer), []).append(run)
    names = [name for name, _ in by_model]
    tables = [
        charge_table(name if names.count(name) == 1 else f"{name}, layer {layer}", [run.results_json for run in own])
        for (name, layer), own in by_model.items()
    ]
    return [table for table in tables if table is not None]


def overview_table(models: Sequence[ModelErrors], targets: Sequence[str]) -> ErrorTable:
    """Make the table of MAE_ten on all test crystals, as mean and median over the crystals, for each target."""
    header = [*targets, *(f"{target}, median error" for target in targets)]
    table = ErrorTable("MAE_ten on all test crystals", ["model", *header])
    rows = {model.name: [Cell(model.name)] for model in models}
    for metric in ("mae_ten", MEDIAN_ERROR):
        for target in targets:
            column = {model.name: model for model in models if model.target == target}
            cells = _error_cells(list(column.values()), [model.errors["all"][metric] for model in column.values()])
            by_name = {
                model.name: replace(cell, text=cell.text + ("" if model.complete else INCOMPLETE_MARK))
                for model, cell in zip(column.values(), cells, strict=True)
            }
            for name, row in rows.items():
                row.append(by_name.get(name, Cell("-")))
    table.rows = list(rows.values())
    table.notes = list(dict.fromkeys(note for target in targets for note in _notes_on_missing_splits(models, target)))
    return table


def system_table(models: Sequence[ModelErrors], target: str) -> ErrorTable:
    """Make Table 2 of arXiv 2405.09052 for one target: MAE_ten by crystal system and of all, and the median error.

    Args:
        models: models of all targets, including the training median.
        target: target of the table.
    """
    of_target = [model for model in models if model.target == target]
    counts = next(model for model in of_target if model.complete).counts
    groups = [group for group in (*SYSTEMS, "all") if group in counts]
    columns = {
        f"{group} ({counts[group]:.1f})": [
            model.errors[group]["mae_ten"] if group in model.errors else None for model in of_target
        ]
        for group in groups
    }
    columns["all, median"] = [model.errors["all"][MEDIAN_ERROR] for model in of_target]
    table = _table_by_model(f"{target}: MAE_ten by crystal system", of_target, columns)
    table.notes = ["in brackets: mean number of test crystals per split", *_notes_on_missing_splits(models, target)]
    return table


def metric_table(models: Sequence[ModelErrors], target: str) -> ErrorTable:
    """Make the table of the four errors of arXiv 2405.09052 (Eq. 3 to 6) on all test crystals."""
    of_target = [model for model in models if model.target == target]
    columns = {METRIC_NAMES[metric]: [model.errors["all"][metric] for model in of_target] for metric in METRICS}
    table = _table_by_model(f"{target}: the four errors on all test crystals", of_target, columns)
    table.notes = _notes_on_missing_splits(models, target)
    return table


# Headings of `RANKING_METRICS`.
RANKING_NAMES = {
    "log_error": "|ln ratio|",
    "spearman": "Spearman",
    "recall_top_tenth": "top tenth, found",
    "recall_high": f"above {HIGH_PERMITTIVITY:.0f}, found",
    "precision_high": f"predicted above {HIGH_PERMITTIVITY:.0f}, true",
}


def ranking_table(models: Sequence[ModelErrors], target: str) -> ErrorTable:
    """Make the table of how well models rank the means of the test crystals; see `ranking_of_means`."""
    of_target = [model for model in models if model.target == target]
    columns = {RANKING_NAMES[metric]: [model.ranking.get(metric) for model in of_target] for metric in RANKING_METRICS}
    _, *largest = columns
    table = _table_by_model(f"{target}: ranking of the means", of_target, columns, largest)
    high = next((model.ranking["high"].mean for model in of_target if model.complete and "high" in model.ranking), 0.0)
    table.notes = [
        "ratio: predicted to expected mean, a third of the trace",
        f"mean number of test crystals above {HIGH_PERMITTIVITY:.0f} per split: {high:.1f}",
        "found: part of the crystals with such labels whose predictions are such, too; true: the reverse",
        *_notes_on_missing_splits(models, target),
    ]
    return table


def ratio_table(ratios: Sequence[Ratio]) -> ErrorTable:
    """Make the table of MAE_ten of our models divided by the best baseline's, with the ratios of the paper below."""
    targets = [target for target in PAPER_RATIOS if any(ratio.target == target for ratio in ratios)]
    values = {(ratio.name, ratio.target): ratio for ratio in ratios}
    table = ErrorTable("MAE_ten divided by that of the best baseline, all test crystals", ["model", *targets])
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
    """Make the layer ablation of one model (Fig. 5a of arXiv 2405.09052): errors of each encoder layer.

    Args:
        name: name of the model.
        models: one for each layer and target; all layers of a target on the same splits.
    """
    targets = list(dict.fromkeys(model.target for model in models))
    header = ["encoder layer", *(f"{target}, {part}" for target in targets for part in ("validation", "test"))]
    table = ErrorTable(f"{name}: MAE_ten by encoder layer", header)
    by_layer = {(model.layer, model.target): model for model in models}
    best = {target: min(m.validation.mean for m in models if m.target == target) for target in targets}
    for layer in sorted({model.layer for model in models if model.layer is not None}):
        row = [Cell(str(layer))]
        for target in targets:
            model = by_layer.get((layer, target))
            if model is None:
                row += [Cell("-"), Cell("-")]
            else:
                is_best = model.validation.mean == best[target]
                row += [Cell(str(model.validation), is_best), Cell(str(model.errors["all"]["mae_ten"]))]
        table.rows.append(row)
    splits = {target: len(model.seeds) for target in targets for model in models if model.target == target}
    listed = ", ".join(f"{target} {count}" for target, count in splits.items())
    table.notes = [f"splits: {listed}", "the other tables show the layer with the lowest validation error"]
    return table


THIRDS = ("smallest", "middle", "largest")


def coverage_table(evaluation: Evaluation, target: str) -> ErrorTable:
    """Make the table of the share of test crystals within their error bars: of all, and of each third by size.

    Models without error bars have no row, and runs of version 0.1.0 no thirds and no bars of the mean.
    """
    title = f"{target}: test crystals within their error bars, %"
    headings = [f"{quantity}, {part}" for quantity in ("tensor", "mean") for part in ("all", *THIRDS)]
    table = ErrorTable(title, ["model", *headings])
    for model in evaluation.errors:
        if model.target != target or model.role == "median":
            continue
        runs = evaluation.model_of(model).runs.values()
        columns = zip(*(_coverages(run.results_json, target) for run in runs), strict=True)
        cells = [Cell(_percent([share for share in column if share is not None])) for column in columns]
        if any(cell.text != "-" for cell in cells):
            table.rows.append([Cell(model.name + ("" if model.complete else INCOMPLETE_MARK)), *cells])
    table.notes = ["made to be 90; thirds of the test crystals by predicted mean, from the smallest to the largest"]
    return table


def _coverages(results: Mapping[str, Any], target: str) -> list[float | None]:
    """Read the shares that results.json records, in the order of the table's columns; None where there are none."""
    bars = results.get("error_bars")
    own = bars.get(target) if isinstance(bars, dict) else None
    shares: list[float | None] = []
    for name in ("test_coverage", "mean_test_coverage"):
        thirds = own.get(f"{name}_by_third") if isinstance(own, dict) else None
        values = [own.get(name) if isinstance(own, dict) else None]
        values += thirds if isinstance(thirds, list) and len(thirds) == len(THIRDS) else [None] * len(THIRDS)
        shares += [value if isinstance(value, float) else None for value in values]
    return shares


def _percent(shares: Sequence[float]) -> str:
    if not shares:
        return "-"
    percent = Spread.of([100 * share for share in shares])
    return f"{percent.mean:.0f} ± {percent.std:.0f}" if percent.splits > 1 else f"{percent.mean:.0f}"


def _table_by_model(
    title: str,
    models: Sequence[ModelErrors],
    columns: Mapping[str, Sequence[Spread | None]],
    largest: Collection[str] = (),
) -> ErrorTable:
    """Make a table with a row for each model, and mark the best of each column.

    Args:
        title: title of the table.
        models: the models.
        columns: values of the models by heading.
        largest: headings of the columns whose largest value is the best.
    """
    table = ErrorTable(title, ["model", *columns])
    cells = [_error_cells(models, spreads, -1.0 if name in largest else 1.0) for name, spreads in columns.items()]
    for place, model in enumerate(models):
        name = model.name + ("" if model.complete else INCOMPLETE_MARK)
        table.rows.append([Cell(name), *(column[place] for column in cells)])
    return table


def _error_cells(models: Sequence[ModelErrors], spreads: Sequence[Spread | None], sign: float = 1.0) -> list[Cell]:
    """Make a cell for each model, and mark the smallest error; errors that print the same are equally good.

    Models that lack splits were tested on other crystals, and the median is only a reference: neither is ever marked.

    Args:
        models: the models.
        spreads: their values.
        sign: -1 to mark the largest value.
    """
    rounded = [
        sign * round(spread.mean, 2) if spread is not None and model.complete and model.role != "median" else None
        for model, spread in zip(models, spreads, strict=True)
    ]
    compared = [value for value in rounded if value is not None]
    lowest = min(compared) if len(compared) > 1 else None
    return [
        Cell("-" if spread is None else str(spread), value is not None and value == lowest)
        for spread, value in zip(spreads, rounded, strict=True)
    ]


def _notes_on_missing_splits(models: Sequence[ModelErrors], target: str) -> list[str]:
    of_target = [model for model in models if model.target == target]
    num_splits = max(len(model.seeds) for model in of_target)
    return [
        f"{INCOMPLETE_MARK} {model.name} has {len(model.seeds)} of {num_splits} splits for {target}: not compared"
        for model in of_target
        if not model.complete
    ]


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file, with six significant digits for floats."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row] for row in rows)


def write_errors(path: Path, models: Sequence[ModelErrors]) -> None:
    """Write every mean and standard deviation: a row for each model, target, group of crystals and error."""
    header = ["target", "model", "layer", "crystals", "tested_a_split", "error", "mean", "std", "splits"]
    rows: list[list[Any]] = []
    for model in models:
        layer = "" if model.layer is None else model.layer
        for group, errors in model.errors.items():
            for metric in (*METRICS, MEDIAN_ERROR):
                spread = errors[metric]
                row = [model.target, model.name, layer, group, float(model.counts[group]), metric]
                rows.append([*row, spread.mean, spread.std, spread.splits])
    write_csv(path, header, rows)


def write_ranking(path: Path, models: Sequence[ModelErrors]) -> None:
    """Write how well models rank the means of the test crystals: a row for each model, target and measure."""
    rows: list[list[Any]] = []
    for model in models:
        layer = "" if model.layer is None else model.layer
        for metric, spread in model.ranking.items():
            rows.append([model.target, model.name, layer, metric, spread.mean, spread.std, spread.splits])
    write_csv(path, ["target", "model", "layer", "measure", "mean", "std", "splits"], rows)

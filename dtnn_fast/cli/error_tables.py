# SPDX-License-Identifier: MIT
"""Tables of errors on the terminal: of one run, of the runs on several splits, and of compared models."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..evaluation.error_table import Cell, ErrorTable
from ..evaluation.tables import METRIC_NAMES
from ..symmetry import CRYSTAL_SYSTEMS
from ..training.error_bars import FEWEST_CRYSTALS
from ..training.metrics import HIGH_PERMITTIVITY, METRICS, over_splits
from .console import counted, stderr, stdout


def print_errors(console: Console, result: Mapping[str, Any], title: str) -> None:
    """Print the errors of a run on its test crystals, beside the errors of predicting the median training tensor.

    Args:
        console: console to print to.
        result: what `train_run` returned.
        title: title of the tables; the target is appended.
    """
    for target, parts in result["errors"].items():
        table = Table(
            title=f"{title}: {target}",
            caption="in parentheses: errors of always predicting the median training tensor",
            box=None,
        )
        table.add_column("crystal system")
        table.add_column("test crystals", justify="right")
        for metric in METRICS:
            table.add_column(METRIC_NAMES[metric], justify="right")
        median = result["median_model"][target]
        for group in _ordered_groups(parts["test"]):
            errors = parts["test"][group]
            cells = [f"{errors[metric]:.3f} ({median[group][metric]:.3f})" for metric in METRICS]
            table.add_row(group, str(errors["count"]), *cells, style="bold" if group == "all" else "")
        console.print(table)
        _print_ranking(console, result.get("ranking", {}).get(target, {}).get("test"))
    _print_charges(console, result)
    stopped = f"best epoch {result['best_epoch']} of {result['epochs']}, " if "best_epoch" in result else ""
    console.print(f"{stopped}{result['train_seconds']:.0f} s of training")


def _print_ranking(console: Console, quality: Mapping[str, float | None] | None) -> None:
    if quality is None:
        return
    spearman = "-" if quality["spearman"] is None else f"{quality['spearman']:.2f}"
    found = 100 * (quality["recall_top_tenth"] or 0.0)
    recall = quality.get("recall_high")  # missing in runs of version 0.1.0
    high = "" if recall is None else f"{100 * recall:.0f} % of those above {HIGH_PERMITTIVITY:.0f} found, "
    console.print(
        f"means: rank correlation {spearman}, {found:.0f} % of the top tenth found, {high}"
        f"mean |ln(predicted / expected)| {quality['log_error']:.2f}"
    )


def _print_charges(console: Console, result: Mapping[str, Any]) -> None:
    """Print the error of Born charges, of a model that has them; results.json has it by element."""
    errors = result.get("born_charges")
    if errors is None:
        return
    if "test" not in errors:
        console.print("Born charges: no test crystal has labels")
        return
    tested = errors["test"]
    console.print(
        f"Born charges: mean absolute error {tested['mae']:.3f} e per component (mean size {tested['mean_size']:.3f} "
        f"e), over {counted(tested['atoms'], 'atom')} of {counted(tested['crystals'], 'test crystal')} (dtnn-fast "
        "evaluate lists the elements)"
    )


def _ordered_groups(groups: Mapping[str, Any]) -> list[str]:
    known = [name for name in ("all", *CRYSTAL_SYSTEMS) if name in groups]
    return known + sorted(set(groups) - set(known))


def print_error_bars(bars: Mapping[str, Mapping[str, Any]], hint: str = "") -> None:
    """Print the share of test crystals within the error bars of an ensemble, or that it has no error bars.

    Args:
        bars: by target; see `MemberPredictions.judge`.
        hint: how to get error bars, printed where there are none.
    """
    for target, bar in bars.items():
        stdout().print(
            f"{target}: {_percent(bar['test_coverage'])} % of the test crystals are within the error bar of their "
            f"tensor{_of_thirds(bar['test_coverage_by_third'])}, {_percent(bar['mean_test_coverage'])} % within that "
            f"of their mean{_of_thirds(bar['mean_test_coverage_by_third'])}; expected: {_percent(bar['level'])} %"
        )
    if not bars:
        stderr().print(
            f"no error bars: members have fewer than {FEWEST_CRYSTALS} validation crystals in common{hint}",
            style="yellow",
        )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f}"


def _of_thirds(shares: Sequence[float | None]) -> str:
    """Describe the coverage of each third of the test crystals, sorted by predicted mean."""
    return f" (thirds by size: {', '.join(map(_percent, shares))} %)"


def summarise_splits(console: Console, folder: Path, results: Mapping[int, Mapping[str, Any]], command: str) -> None:
    """Write summary.json of the runs on several splits, and print it.

    Args:
        console: console to print to.
        folder: folder that holds the run folders.
        results: results of each run, by seed.
        command: the command line, stored in summary.json.
    """
    summary = over_splits(results)
    content = {"command": command, **summary, "splits": results}
    (folder / "summary.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print_summary(console, summary, list(results))


def print_summary(console: Console, summary: Mapping[str, Any], seeds: Sequence[int]) -> None:
    """Print mean and standard deviation of the test errors over the splits; see `over_splits`."""
    table = Table(title=f"Test errors, mean ± standard deviation over {counted(len(seeds), 'split')}", box=None)
    table.add_column("target")
    table.add_column("model")
    for metric in METRICS:
        table.add_column(METRIC_NAMES[metric], justify="right")
    for target in summary["dtnn"]:
        for model, name in (("dtnn", "DTNN"), ("median_model", "training median")):
            errors = summary[model][target]
            table.add_row(target, name, *(f"{errors[m]['mean']:.3f} ± {errors[m]['std']:.3f}" for m in METRICS))
    console.print(table)


def print_tables(console: Console, tables: Sequence[ErrorTable]) -> None:
    """Print the tables of an evaluation, with the best cells in bold, or between ** where the output is a file."""
    for table in tables:
        printed = Table(title=table.title, caption="; ".join(table.notes) or None, box=None)
        for place, heading in enumerate(table.header):
            printed.add_column(Text(heading), justify="right" if place and table.is_numeric else "left")
        for row in table.rows:
            printed.add_row(*(_cell_text(cell, console.is_terminal) for cell in row))
        console.print(printed)


def _cell_text(cell: Cell, is_terminal: bool) -> Text:
    if not cell.best:
        return Text(cell.text)
    return Text(cell.text, style="bold") if is_terminal else Text(f"**{cell.text}**")

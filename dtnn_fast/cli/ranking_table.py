# SPDX-License-Identifier: MIT
"""The printed table of the best crystals of a screening, and what the marks in it mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from ..screening.ranking import Ranking

_DAGGER = "†"
_WARNED = "!"


def print_ranking(console: Console, ranking: Ranking, count: int) -> None:
    """Print the crystals of the first ranks.

    Args:
        console: where to.
        ranking: the ranking.
        count: number of crystals.
    """
    from ..screening.ranking import FIGURE_OF_MERIT, main_target
    from ..screening.store import MEAN_ERROR, TENSOR_ERROR

    rows = ranking.top(count)
    if not rows:
        console.print("no crystal is ranked")
        return
    by, targets = ranking.rules.by, ranking.targets
    target = next((name for name in targets if by is not None and by.startswith(f"{name}_")), main_target(targets))
    means = [f"{name}_mean" for name in (target, *(name for name in reversed(targets) if name != target))]
    numbers = [*means, *(f"{target}_{name}" for name in ("e1", "e2", "e3", "anisotropy"))]
    if any(row["band_gap"] is not None for row in rows):
        numbers = ["band_gap", FIGURE_OF_MERIT, *numbers]
    if f"{target}_{TENSOR_ERROR}" in rows[0]:
        numbers.append(f"{target}_{TENSOR_ERROR}")
    bold = by if by in numbers else FIGURE_OF_MERIT if by is None and FIGURE_OF_MERIT in numbers else means[0]
    table = Table(title=_title(ranking), box=None)
    table.add_column("rank", justify="right")
    # Ids are never cut, as the other texts would be on a narrow terminal.
    table.add_column("id", overflow="fold")
    for name in ("formula", "crystal system"):
        table.add_column(name)
    if by is not None and by not in numbers:
        table.add_column(by, justify="right", style="bold")
    for name in numbers:
        style = "bold" if name == bold and (by is None or by in numbers) else ""
        table.add_column(_heading(name, target), justify="right", style=style)
    for row in rows:
        mark = f" {_DAGGER}" if row["labelled"] else ""
        mark += f" {_WARNED}" if row["warnings"] else ""
        values = [_with_error(row, name) for name in numbers]
        if by is not None and by not in numbers:
            values = [_number(row["rank_value"]), *values]
        table.add_row(str(row["rank"]), row["id"] + mark, row["formula"], row["crystal_system"] or "-", *values)
    console.print(table)
    if f"{target}_{TENSOR_ERROR}" in rows[0]:
        mean_error = "± is the error bar of the mean; " if f"{target}_{MEAN_ERROR}" in rows[0] else ""
        console.print(
            f"{mean_error}tensor error is the error bar of the {target} tensor, for the mean absolute error of its six "
            "elements. Error bars hold for nine of ten crystals kept out of training."
        )
    if any(row["labelled"] for row in rows):
        from ..datasets.bundled import labelled_index

        console.print(
            f"{_DAGGER} known from DFPT: has the structure of one of the {len(labelled_index())} bundled labelled "
            "crystals. The bundled model was trained on most of them."
        )
    gap = "Band gaps are those given in the input. " if "band_gap" in numbers else ""
    console.print(
        f"e1 <= e2 <= e3 are the principal values of the {target} tensor, anisotropy is e3 - e1. {gap}Not valid for "
        "metals: whether a crystal has a band gap is not predicted, so check it before use."
    )
    _print_warnings(console, rows)


def print_unranked(console: Console, ranking: Ranking, file: str) -> None:
    """Print how many crystals are not ranked, and why.

    Args:
        console: where to.
        ranking: the ranking.
        file: name of the file that lists them.
    """
    from ..screening.crystal_warnings import TITLES

    reasons = ranking.reasons()
    if not reasons:
        return
    titles: Mapping[str, str] = {
        **{str(code): title for code, title in TITLES.items()},
        "no_value": "no value to rank by",
        "no_band_gap": "a metal: the input gives a band gap of zero",
        "duplicate": "same structure as an earlier crystal",
    }
    listed = "; ".join(f"{titles.get(reason, reason)}: {number:,}" for reason, number in reasons.items())
    left = ranking.count_unranked()
    crystals = "1 crystal is" if left == 1 else f"{left:,} crystals are"
    console.print(f"{crystals} not ranked (listed in {file}): {listed}")


def _title(ranking: Ranking) -> str:
    direction = "lowest" if ranking.rules.lowest_first else "highest"
    return f"Relative permittivity, ranked by {ranking.value_name}, {direction} first"


def _heading(name: str, ranked_target: str) -> str:
    if name == "band_gap":
        return "gap (eV)"
    target, _, number = name.partition("_")
    return f"{target} {number}" if number == "mean" or target != ranked_target else number.replace("_", " ")


def _number(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else "-" if value is None else str(value)


def _with_error(row: Mapping[str, Any], name: str) -> str:
    """Write a number of the table, with its error bar behind it where it has one."""
    error_bar = row.get(f"{name}_error")
    return _number(row[name]) + ("" if error_bar is None else f" ± {error_bar:.2f}")


def _print_warnings(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print what the marks of the ranking mean, by warning."""
    from ..screening.crystal_warnings import TITLES

    for code, title in TITLES.items():
        places = [str(row["rank"]) for row in rows if code in row["warning_codes"].split()]
        if places:
            console.print(f"{_WARNED} {title}: rank {', '.join(places)}")

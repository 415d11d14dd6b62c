# SPDX-License-Identifier: MIT
"""What is seen of a screening: the progress bar and the ranked table."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from .console import stderr

_DAGGER = "†"


class ScreeningProgress:
    """A progress bar on a terminal, with crystals per second.

    Args:
        unit: what the bar counts: files or crystals.
        total: how many there are.
    """

    def __init__(self, unit: str, total: int) -> None:
        console = stderr()
        self._bar = Progress(
            TextColumn(unit),
            MofNCompleteColumn(),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total)
        self._count = 0
        self._start = time.perf_counter()

    def __enter__(self) -> ScreeningProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advancing(self, files: Iterable[Path]) -> Iterator[Path]:
        """Pass files on, and move the bar after each."""
        for file in files:
            yield file
            self._bar.advance(self._task)

    def count(self, number: int) -> None:
        """Note that some crystals are done."""
        self._count += number
        speed = self._count / (time.perf_counter() - self._start)
        self._bar.update(self._task, description=f"{self._count:,} crystals, {speed:,.0f}/s")

    def count_and_advance(self, number: int) -> None:
        """Note that some crystals are done, where the bar counts crystals."""
        self._bar.advance(self._task, number)
        self.count(number)


def print_ranking(
    console: Console,
    columns: Mapping[str, Any],
    *,
    rows: Sequence[int],
    targets: Sequence[str],
    by: str,
    labelled: Collection[str],
) -> None:
    """Print the first crystals of a ranking.

    Args:
        console: where to.
        columns: of `Predictions.columns`.
        rows: row indices, from the first rank.
        targets: of the model.
        by: the column of the ranking.
        labelled: ids of crystals whose tensors were known before; they get a dagger.
    """
    ranked_target, _, number = by.partition("_")
    # The mean of every target, the ranked tensor in detail, and what was ranked by where that is no such column.
    shown = [ranked_target, *(target for target in reversed(targets) if target != ranked_target)]
    names = [f"{target}_mean" for target in shown] + [f"{ranked_target}_{e}" for e in ("e1", "e2", "e3", "anisotropy")]
    if by not in names:
        names.append(by)
    table = Table(title=f"Ranked by {number} of the {ranked_target} tensor", box=None)
    table.add_column("rank", justify="right")
    for name in ("id", "formula", "crystal system"):
        table.add_column(name)
    for name in names:
        target, _, what = name.partition("_")
        header = f"{target} {what}" if what == "mean" or target != ranked_target else what
        table.add_column(header, justify="right", style="bold" if name == by else "")
    for place, row in enumerate(rows, start=1):
        name = columns["id"][row]
        mark = f" {_DAGGER}" if name in labelled else ""
        cells = [f"{columns[column][row]:.2f}" for column in names]
        system = columns["crystal_system"][row] or "-"
        table.add_row(str(place), escape(name) + mark, columns["formula"][row], system, *cells)
    console.print(table)
    if any(columns["id"][row] in labelled for row in rows):
        console.print(
            f"{_DAGGER} one of the {len(labelled)} bundled crystals with tensors from DFPT: the bundled model learned "
            "from most of them"
        )
    console.print(
        "e1 <= e2 <= e3 are the principal values, anisotropy is e3 - e1. A metal has no static dielectric constant, "
        "and whether a crystal has a band gap is not predicted: check it before use."
    )

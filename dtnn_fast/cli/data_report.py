# SPDX-License-Identifier: MIT
"""What the commands data fetch and data info show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from .console import stderr

if TYPE_CHECKING:
    from ..crystals.crystal import Crystal

_SCALARS = ("database_version", "date", "url", "file", "sha256", "query", "encoder", "tensor_range", "frame_of_source")


class FetchProgress:
    """Bars on a terminal for what comes: kilobytes of a large file, tensors, rows."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        console = stderr()
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> FetchProgress:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, what: str, done: int, whole: int) -> None:
        """Move the bar of what is counted; see `data.fetch.download.OnProgress`."""
        if what == "bytes":
            what, done, whole = "kilobytes", done // 1024, whole // 1024
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=whole or None)
        self._progress.update(self._tasks[what], completed=done)


def print_counts(console: Console, provenance: Mapping[str, Any]) -> None:
    """A table of how many rows were kept and dropped, and why."""
    table = Table(title=f"{provenance.get('title')}, version {provenance.get('database_version')}")
    table.add_column("rows")
    table.add_column("count", justify="right")
    table.add_row("kept", f"{provenance['kept']:,}", style="bold")
    for why, count in provenance.get("dropped", {}).items():
        table.add_row(f"dropped: {why}", f"{count:,}")
    console.print(table)


def print_set(console: Console, crystals: Sequence[Crystal], provenance: Mapping[str, Any]) -> None:
    """Where a packed set came from, and what is in it."""
    if "kept" in provenance:
        print_counts(console, provenance)
    table = Table(box=None, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name in _SCALARS:
        if provenance.get(name) is not None:
            table.add_row(name.replace("_", " "), str(provenance[name]))
    table.add_row("licence", str(provenance.get("licence", "not known")))
    for text in provenance.get("cite", []):
        table.add_row("cite", str(text))
    elements = {int(z) for crystal in crystals for z in np.unique(crystal.atomic_numbers)}
    atoms = sum(crystal.num_atoms for crystal in crystals)
    table.add_row("crystals", f"{len(crystals):,} of {len(elements)} elements, {atoms:,} atoms")
    for name in ("electronic", "ionic", "total"):
        means = [np.trace(crystal.targets[name]) / 3 for crystal in crystals if name in crystal.targets]
        if means:
            low, middle, high = np.quantile(means, [0, 0.5, 1])
            table.add_row(f"{name}, mean", f"{len(means):,} tensors: median {middle:.3g}, from {low:.3g} to {high:.3g}")
    console.print(table)

# SPDX-License-Identifier: MIT
"""The command screen."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..errors import BadFileError
from . import STOPPED
from .console import command_line, stderr, stdout
from .options import ModelOption, ThreadsOption, exit_with, load_model, require_some
from .progress import ScreeningProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..crystals.crystal import Crystal, Rejected
    from ..model.predictor import Predictor
    from ..screening.store import Predictions


_DAGGER = "†"


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


FILES = ("predictions.parquet", "ranking.csv", "rejected.csv", "plot.png", "summary.json")


def screen(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATHS]...",
            show_default=False,
            help="Files (CIF, POSCAR, extxyz, pymatgen JSON, .jsonl, each also .gz, or .npz of data fetch) or folders "
            "of them. Without any: the crystals that come with dtnn-fast.",
        ),
    ] = None,
    model: ModelOption = "dielectric",
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", file_okay=False, help="Folder for the results; results of an earlier run are replaced."
        ),
    ] = Path("screening"),
    top: Annotated[int, typer.Option(min=0, help="Rows of the table that is printed.")] = 20,
    sort_by: Annotated[
        str,
        typer.Option(
            help="What to rank by: mean, e1, e2, e3 (principal values from small to large) or anisotropy (e3 - e1), of "
            "the total tensor, or of another one: electronic_mean, ionic_anisotropy, ..."
        ),
    ] = "mean",
    lowest_first: Annotated[
        bool, typer.Option("--lowest-first", help="Small values first, for low-k dielectrics.")
    ] = False,
    batch_atoms: Annotated[
        int, typer.Option(min=1, help="Atoms that are computed together; less needs less memory.")
    ] = 1024,
    threads: ThreadsOption = None,
) -> None:
    """Predict the dielectric tensors of many crystals, and rank them.

    Writes predictions.parquet (all tensors), ranking.csv, rejected.csv (what could not be used, and why), plot.png and
    summary.json. A crystal that cannot be used never stops the others.

    Ctrl-C stops early: the results of what was predicted until then are written.

    Exit code: 0 all were predicted, 3 some were rejected, 2 nothing could be done, 130 stopped by Ctrl-C.
    """
    predictor = load_model(model, threads)

    from ..crystals.crystal import write_rejected
    from ..datasets.bundled import load_labelled
    from ..errors import optional_import
    from ..screening.ranking import rank, resolve_sort_column, write_parquet, write_ranking
    from ..screening.report import plot_screening

    targets = predictor.targets
    try:
        by = resolve_sort_column(sort_by, targets)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--sort-by") from None
    # Before hours of work: what is needed to write the results.
    optional_import("pyarrow", extra="cli", purpose="write predictions.parquet")
    optional_import("matplotlib", extra="cli", purpose="draw plot.png")
    _prepare(output)

    start = time.perf_counter()
    try:
        done = _screen_files(predictor, paths, batch_atoms) if paths else _screen_bundled(predictor, batch_atoms)
    except KeyboardInterrupt:
        # Before the first prediction, such as while folders are listed.
        _say_stopped(0)
        raise typer.Exit(STOPPED) from None
    seconds = time.perf_counter() - start
    if done.stopped:
        _say_stopped(len(done.predictions))
        if not done.predictions:
            raise typer.Exit(STOPPED)

    write_rejected(output / "rejected.csv", done.rejected)
    require_some(len(done.predictions), done.rejected, ", ".join(map(str, paths or [])))
    labelled = frozenset(crystal.id for crystal in load_labelled())
    columns = done.predictions.columns()
    order = rank(columns, by, lowest_first)
    write_parquet(output / "predictions.parquet", done.predictions, model)
    write_ranking(output / "ranking.csv", columns, order, targets, labelled)
    plot_screening(output / "plot.png", done.predictions, order, labelled)
    summary = {
        "command": command_line(),
        "model": model,
        "targets": list(targets),
        "sorted_by": by,
        "lowest_first": lowest_first,
        "batch_atoms": batch_atoms,
        "predicted": len(done.predictions),
        "rejected": len(done.rejected),
        "left_out_for_unknown_elements": done.left_out,
        "seconds": round(seconds, 3),
        "crystals_per_second": round(len(done.predictions) / seconds, 2),
        "stopped": done.stopped,
    }
    _write_summary(output / "summary.json", summary)
    if top:
        print_ranking(stdout(), columns, rows=order[:top].tolist(), targets=targets, by=by, labelled=labelled)
    stderr().print(
        f"{len(done.predictions):,} crystals in {seconds:.1f} s ({len(done.predictions) / seconds:.0f} per second)"
    )
    stdout().print(f"results: {', '.join(str(output / name) for name in FILES)}")
    if done.stopped:
        raise typer.Exit(STOPPED)
    exit_with(done.rejected, f"see {output / 'rejected.csv'}")


def _say_stopped(predicted: int) -> None:
    stderr().print(f"stopped: {predicted:,} crystals were predicted, the rest was not looked at", style="yellow")


def _prepare(output: Path) -> None:
    """Make the folder for the results, and see that they can be written there."""
    output.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if (output / name).is_dir():
            raise BadFileError(f"{output / name}: is a folder, where a file of results must go")
    try:
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise BadFileError(f"{output}: results cannot be written there: {error.strerror or error}") from error


class _Screened(NamedTuple):
    """What was predicted and rejected, how many crystals the model was not asked about, and whether Ctrl-C ended it."""

    predictions: Predictions
    rejected: list[Rejected]
    left_out: int
    stopped: bool


def _until_stopped(
    model: Predictor, items: Iterable[Crystal | Rejected], batch_atoms: int, on_done: Callable[[int], None]
) -> tuple[Predictions, list[Rejected], bool]:
    from ..screening.engine import ScreeningStopped, screen_crystals

    try:
        return *screen_crystals(model, items, batch_atoms, on_done), False
    except ScreeningStopped as stop:
        return stop.predictions, stop.rejected, True


def _screen_files(model: Predictor, paths: list[Path], batch_atoms: int) -> _Screened:
    from ..formats.find_files import find_files, read_files

    found = find_files(paths)
    if found.skipped:
        links = " and links to folders" if any(path.is_dir() for path in found.skipped) else ""
        stderr().print(f"{len(found.skipped)} files of other kinds{links} were skipped, such as {found.skipped[0]}")
    with ScreeningProgress("files", len(found.files)) as progress:
        items = read_files(progress.advancing(found.files), found.files)
        predictions, rejected, stopped = _until_stopped(model, items, batch_atoms, progress.count)
    return _Screened(predictions, found.rejected + rejected, 0, stopped)


def _screen_bundled(model: Predictor, batch_atoms: int) -> _Screened:
    from ..datasets.bundled import load_screening

    crystals = load_screening()
    known = frozenset(model.elements)
    chosen = [c for c in crystals if not known or known.issuperset(c.atomic_numbers.tolist())]
    left_out = len(crystals) - len(chosen)
    stderr().print(
        f"screening {len(chosen):,} of the {len(crystals):,} bundled crystals that can be insulators; "
        f"{left_out:,} have elements that the model does not know"
    )
    with ScreeningProgress("crystals", len(chosen)) as progress:
        predictions, rejected, stopped = _until_stopped(model, chosen, batch_atoms, progress.count_and_advance)
    return _Screened(predictions, rejected, left_out, stopped)


def _write_summary(path: Path, summary: dict[str, Any]) -> None:
    import torch

    from ..training.run_folder import versions

    record = {**summary, "threads": torch.get_num_threads(), "versions": versions()}
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

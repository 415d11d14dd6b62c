# SPDX-License-Identifier: MIT
"""The command screen."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ..errors import BadFileError
from . import STOPPED
from .console import command_line, stderr, stdout
from .options import CRYSTAL_FILES, DeviceOption, ModelOption, ThreadsOption, exit_with, load_model, require_some
from .progress import ScreeningProgress

if TYPE_CHECKING:
    from ..crystals.crystal import Rejected
    from ..model.predictor import Predictor
    from ..screening.sources import CrystalSource
    from ..screening.store import ScreenedCrystals

RESULT_FILES = ("predictions.parquet", "ranking.csv", "rejected.csv", "plot.png", "summary.json")
_DAGGER = "†"
_WARNED = "!"


def screen(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PATHS",
            show_default=False,
            help=f"{CRYSTAL_FILES} Without a path, screen the crystals that come with dtnn-fast.",
        ),
    ] = None,
    model: ModelOption = "dielectric",
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            file_okay=False,
            help="Folder for the results, created if missing. Replaces the results of an earlier screening there.",
        ),
    ] = Path("screening"),
    top: Annotated[
        int,
        typer.Option(min=0, help="Number of crystals in the printed table, 0 for no table. ranking.csv lists all."),
    ] = 20,
    sort_by: Annotated[
        str,
        typer.Option(
            help="Rank by this number of the total dielectric tensor: mean (a third of the trace), e1, e2 or e3 "
            "(principal values from small to large) or anisotropy (e3 - e1). Names such as electronic_mean or "
            "ionic_anisotropy select another tensor."
        ),
    ] = "mean",
    lowest_first: Annotated[
        bool,
        typer.Option("--lowest-first", help="Rank small values first, for low-k dielectrics; otherwise large first."),
    ] = False,
    rank_unreliable: Annotated[
        bool,
        typer.Option(
            "--rank-unreliable",
            help="Ranks crystals whose warnings say that the prediction means nothing among the others; otherwise they "
            "come last. These are metals, elements alone, slabs and molecules in a box, lengths in a wrong unit, and "
            "crystals whose error bar exceeds the value.",
        ),
    ] = False,
    born_charges: Annotated[
        bool,
        typer.Option(
            "--born-charges",
            help="Predicts the Born effective charges of all atoms too, in e, and writes them into "
            "predictions.parquet with the atoms' elements and positions, in the order of the file. Needs a model with "
            "Born charges (dtnn-fast train with training.born_weight).",
        ),
    ] = False,
    batch_atoms: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default="1024 on the CPU; on a GPU by its free memory",
            help="Maximum number of atoms that are computed together, except for one larger crystal. Fewer need less "
            "memory.",
        ),
    ] = None,
    threads: ThreadsOption = None,
    device: DeviceOption = "cpu",
) -> None:
    """Predict the dielectric tensors of many crystals, and rank the crystals.

    Write predictions.parquet (all tensors), ranking.csv, rejected.csv (crystals that could not be used, and why),
    plot.png and summary.json. A crystal that cannot be used never stops the others.

    Tensors are in the Cartesian frame in which a file gives the cell. A CIF gives no such frame: c is along z, and a in
    the plane of x and z, as in pymatgen. predictions.parquet lists the lattice vectors, and describes its columns.

    The columns warnings and warning_codes say where the model does not apply, or where its numbers cannot be right. The
    printed table marks these crystals with an exclamation mark.

    Ctrl-C stops early, and writes the results of the crystals predicted until then.

    Exit code: 0 all crystals were predicted, 3 some were rejected, 2 nothing could be done, 130 stopped by Ctrl-C.
    """
    predictor = load_model(model, threads, device, "screen")

    from ..crystals.crystal import write_rejected
    from ..screening.predictions_file import write_parquet
    from ..screening.ranking import rank, resolve_sort_column, write_ranking
    from ..screening.report import plot_screening
    from ..screening.sources import open_source
    from ..screening.store import count_warnings

    targets = predictor.targets
    _check_charges(predictor, born_charges)
    batch_atoms = batch_atoms or predictor.default_batch_atoms()
    try:
        sort_column = resolve_sort_column(sort_by, targets)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--sort-by") from None
    _prepare_folder(output)

    start = time.perf_counter()
    try:
        source = open_source(paths or [], predictor.elements)
        if source.notice:
            stderr().print(source.notice)
        screened, rejected, stopped, failures = _screen(predictor, source, batch_atoms, born_charges)
    except KeyboardInterrupt:
        # Before the first prediction, for example while folders are listed.
        _print_stopped(0)
        raise typer.Exit(STOPPED) from None
    seconds = time.perf_counter() - start
    if stopped:
        _print_stopped(len(screened))
        if not screened:
            raise typer.Exit(STOPPED)

    write_rejected(output / "rejected.csv", rejected)
    require_some(len(screened), rejected, ", ".join(map(str, paths or [])))
    columns = screened.columns(ranked_target=sort_column.partition("_")[0])
    order = rank(columns, sort_column, lowest_first, unreliable_last=not rank_unreliable)
    write_parquet(output / "predictions.parquet", screened, model)
    write_ranking(output / "ranking.csv", columns, order, targets)
    plot_screening(output / "plot.png", screened, order)
    summary = {
        "command": command_line(),
        "model": model,
        "targets": list(targets),
        "sorted_by": sort_column,
        "lowest_first": lowest_first,
        "rank_unreliable": rank_unreliable,
        "batch_atoms": batch_atoms,
        "born_charges": born_charges,
        "predicted": len(screened),
        "rejected": len(rejected),
        "warnings": count_warnings(columns),
        "left_out_for_unknown_elements": source.num_left_out,
        "symmetry_not_used": len(failures),
        "seconds": round(seconds, 3),
        "crystals_per_second": round(len(screened) / seconds, 2),
        "stopped": stopped,
    }
    _write_summary(output / "summary.json", summary)
    if top:
        rows = order[:top].tolist()
        _print_ranking(stdout(), columns, rows, targets, sort_column, lowest_first)
        _print_warnings(stdout(), columns, rows, rank_unreliable)
    _print_end(len(screened), seconds, failures)
    stdout().print(f"results: {', '.join(str(output / name) for name in RESULT_FILES)}")
    if stopped:
        raise typer.Exit(STOPPED)
    exit_with(rejected, f"see {output / 'rejected.csv'}")


def _check_charges(predictor: Predictor, born_charges: bool) -> None:
    if born_charges and not predictor.has_born_charges:
        raise typer.BadParameter(
            "needs a model with Born charges (dtnn-fast train with training.born_weight)", param_hint="--born-charges"
        )


def _prepare_folder(output: Path) -> None:
    """Create the folder for the results, and check before hours of work that they can be written there."""
    from ..errors import optional_import

    optional_import("pyarrow", extra="cli", purpose="write predictions.parquet")
    optional_import("matplotlib", extra="cli", purpose="draw plot.png")
    output.mkdir(parents=True, exist_ok=True)
    for name in RESULT_FILES:
        if (output / name).is_dir():
            raise BadFileError(f"{output / name}: is a folder, where a file of results must go")
    try:
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise BadFileError(f"{output}: results cannot be written there: {error.strerror or error}") from error


def _screen(
    predictor: Predictor, source: CrystalSource, batch_atoms: int, born_charges: bool
) -> tuple[ScreenedCrystals, list[Rejected], bool, dict[str, str]]:
    """Screen with a progress bar.

    Returns:
        The predicted crystals, the rejected, whether Ctrl-C ended it, and for each crystal whose symmetry could not be
        used the reason.
    """
    from ..nn.reduced_graph import collected_failures
    from ..screening.engine import ScreeningStopped, screen_crystals

    with collected_failures() as failures, ScreeningProgress(source.unit, source.total) as progress:
        on_done = progress.count if source.unit == "files" else progress.count_and_advance
        crystals = source.read(progress.advancing)
        try:
            screened, rejected = screen_crystals(predictor, crystals, batch_atoms, on_done, born_charges)
            stopped = False
        except ScreeningStopped as stop:
            screened, rejected, stopped = stop.screened, stop.rejected, True
    return screened, [*source.rejected, *rejected], stopped, failures


def _print_end(num_predicted: int, seconds: float, failures: Mapping[str, str]) -> None:
    """Print how long it took, and how many crystals took longer because their symmetry could not be used."""
    stderr().print(f"{num_predicted:,} crystals in {seconds:.1f} s ({num_predicted / seconds:.0f} per second)")
    if failures:
        label, reason = next(iter(failures.items()))
        stderr().print(
            f"the symmetry of {len(failures):,} crystals could not be used, so all their atoms were computed: "
            f"{label}: {reason}"
        )


def _print_stopped(num_predicted: int) -> None:
    stderr().print(
        f"stopped: {num_predicted:,} crystals were predicted, the remaining crystals were skipped", style="yellow"
    )


def _write_summary(path: Path, summary: dict[str, Any]) -> None:
    import torch

    from ..training.run_folder import versions

    content = {**summary, "threads": torch.get_num_threads(), "versions": versions()}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _print_ranking(
    console: Console,
    columns: Mapping[str, Any],
    rows: Sequence[int],
    targets: Sequence[str],
    sort_column: str,
    lowest_first: bool,
) -> None:
    """Print the first crystals of a ranking.

    Args:
        console: console to print to.
        columns: of `ScreenedCrystals.columns`.
        rows: row indices, from the first rank.
        targets: of the model.
        sort_column: the column of the ranking.
        lowest_first: whether small values have the first ranks.
    """
    from ..datasets.bundled import labelled_index
    from ..screening.store import MEAN_ERROR, TENSOR_ERROR

    ranked_target, _, ranked_number = sort_column.partition("_")
    # The mean of every target, all numbers of the ranked tensor, and the sort column if it is none of them.
    listed_targets = [ranked_target, *(target for target in reversed(targets) if target != ranked_target)]
    number_columns = [f"{target}_mean" for target in listed_targets]
    number_columns += [f"{ranked_target}_{number}" for number in ("e1", "e2", "e3", "anisotropy")]
    if sort_column not in number_columns:
        number_columns.append(sort_column)
    tensor_error = f"{ranked_target}_{TENSOR_ERROR}"
    if tensor_error in columns:
        number_columns.append(tensor_error)
    direction = "lowest" if lowest_first else "highest"
    title = f"Relative permittivity, ranked by {ranked_number} of the {ranked_target} tensor, {direction} first"
    table = Table(title=title, box=None)
    table.add_column("rank", justify="right")
    # Ids are never cut, as the other texts would be on a narrow terminal.
    table.add_column("id", overflow="fold")
    for name in ("formula", "crystal system"):
        table.add_column(name)
    for name in number_columns:
        target, _, number = name.partition("_")
        heading = f"{target} {number}" if number == "mean" or target != ranked_target else number.replace("_", " ")
        table.add_column(heading, justify="right", style="bold" if name == sort_column else "")
    for place, row in enumerate(rows, start=1):
        mark = f" {_DAGGER}" if columns["labelled"][row] else ""
        mark += f" {_WARNED}" if columns["warnings"][row] else ""
        numbers = [_with_error(columns, name, row) for name in number_columns]
        system = columns["crystal_system"][row] or "-"
        table.add_row(str(place), columns["id"][row] + mark, columns["formula"][row], system, *numbers)
    console.print(table)
    if tensor_error in columns:
        mean_error = "± is the error bar of the mean, " if f"{ranked_target}_{MEAN_ERROR}" in columns else ""
        console.print(
            f"{mean_error}tensor error that of the {ranked_target} tensor: of the mean absolute error over its six "
            "elements. Error bars hold for nine of ten validation crystals."
        )
    if any(columns["labelled"][row] for row in rows):
        console.print(
            f"{_DAGGER} known from DFPT: has the structure of one of the {len(labelled_index())} bundled labelled "
            "crystals. The bundled model was trained on most of them."
        )
    console.print(
        f"e1 <= e2 <= e3 are the principal values of the {ranked_target} tensor, anisotropy is e3 - e1. Not valid for "
        "metals: whether a crystal has a band gap is not predicted, so check it before use."
    )


def _with_error(columns: Mapping[str, Any], name: str, row: int) -> str:
    """Write a number of the table, with its error bar behind it where it has one."""
    error_bar = columns.get(f"{name}_error")
    return f"{columns[name][row]:.2f}" + ("" if error_bar is None else f" ± {error_bar[row]:.2f}")


def _print_warnings(console: Console, columns: dict[str, Any], rows: Sequence[int], rank_unreliable: bool) -> None:
    """Print what the marks of the ranking mean, by warning, and how many crystals are ranked last.

    Args:
        console: where to.
        columns: of `ScreenedCrystals.columns`.
        rows: row indices of the printed crystals, from the first rank.
        rank_unreliable: whether crystals whose predictions mean nothing are ranked among the others.
    """
    from ..screening.crystal_warnings import TITLES
    from ..screening.ranking import is_unreliable

    for code, title in TITLES.items():
        places = [place for place, row in enumerate(rows, start=1) if code in columns["warning_codes"][row].split()]
        if places:
            console.print(f"{_WARNED} {title}: rank {', '.join(map(str, places))}")
    num_last = int(is_unreliable(columns).sum())
    if num_last and not rank_unreliable:
        console.print(
            f"{num_last:,} crystals are ranked last, because their warnings say that the prediction means nothing "
            "(--rank-unreliable ranks them among the others)."
        )

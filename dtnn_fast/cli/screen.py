# SPDX-License-Identifier: MIT
"""dtnn-fast screen: predict the dielectric tensors of many crystals, and rank the crystals."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import BadFileError, DTNNError
from . import SOME_REJECTED, STOPPED
from .console import command_line, stderr, stdout
from .options import CRYSTAL_FILES, ModelOption, ThreadsOption, describe, load_model
from .progress import ScreeningProgress
from .ranking_options import (
    RANKING_FILE,
    UNRANKED_FILE,
    DuplicatesOption,
    ElementsOption,
    LowestOption,
    ParetoOption,
    PrototypeOption,
    SortByOption,
    TopOption,
    UnreliableOption,
    WhereOption,
    WithoutOption,
    split_elements,
    warn_few,
    write_and_print,
)
from .screen_devices import ALL_DEVICES, list_devices, screen_on_all

if TYPE_CHECKING:
    from ..model.predictor import Predictor
    from ..screening.input_chunks import ScreeningInput
    from ..screening.parts import Parts
    from ..screening.ranking import RankingRules
    from ..screening.screening_run import ScreeningOptions

REJECTED_FILE, PLOT_FILE, SUMMARY_FILE = "rejected.csv", "plot.png", "summary.json"
RESULT_FILES = (RANKING_FILE, UNRANKED_FILE, REJECTED_FILE, PLOT_FILE, SUMMARY_FILE)
# Raw files of fewer bytes are read in this process: another one takes a second to start.
_BYTES_FOR_READERS = 4 * 2**20
_RUN_PANEL = "The run"
_NO_FAILURES: Mapping[str, str] = {}


@dataclass(frozen=True)
class _Results:
    """What a finished screening needs for its files."""

    parts: Parts
    model: str
    rules: RankingRules
    top: int
    find_duplicates: bool
    others_rejected: Sequence[Any]
    facts: Mapping[str, Any]


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
            help="Folder for the results, created if missing. A screening that was stopped goes on there.",
        ),
    ] = Path("screening"),
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Removes the parts of an earlier screening in --output first.")
    ] = False,
    top: TopOption = 20,
    sort_by: SortByOption = None,
    lowest_first: LowestOption = False,
    rank_unreliable: UnreliableOption = False,
    where: WhereOption = None,
    elements: ElementsOption = "",
    without: WithoutOption = "",
    per_prototype: PrototypeOption = None,
    pareto: ParetoOption = False,
    rank_duplicates: DuplicatesOption = False,
    find_duplicates: Annotated[
        bool,
        typer.Option(
            "--find-duplicates/--no-find-duplicates",
            help="Whether crystals with the structure of an earlier one are marked (by pymatgen's StructureMatcher).",
            rich_help_panel=_RUN_PANEL,
        ),
    ] = True,
    born_charges: Annotated[
        bool,
        typer.Option(
            "--born-charges",
            help="Predicts the Born effective charges of all atoms too, in e, and writes them into the parts, in the "
            "order of the file. Needs a model with Born charges (dtnn-fast train with training.born_weight).",
        ),
    ] = False,
    shard: Annotated[
        str,
        typer.Option(
            help="Screen one share of the input, such as 3/8, the third of eight, into the same folder; --merge then "
            "makes the ranking.",
            rich_help_panel=_RUN_PANEL,
        ),
    ] = "1/1",
    merge: Annotated[
        bool,
        typer.Option(
            "--merge",
            help="Predicts nothing: checks that all shares are in --output, and makes the ranking.",
            rich_help_panel=_RUN_PANEL,
        ),
    ] = False,
    readers: Annotated[
        int | None,
        typer.Option(
            min=0,
            show_default="by the size of the input and the number of cores",
            help="Number of processes that read crystals and find their symmetry; 0 for none.",
            rich_help_panel=_RUN_PANEL,
        ),
    ] = None,
    batch_atoms: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default="1024 on the CPU; on a GPU by its free memory",
            help="Maximum number of atoms that are computed together, except for one larger crystal. Fewer need less "
            "memory.",
            rich_help_panel=_RUN_PANEL,
        ),
    ] = None,
    threads: ThreadsOption = None,
    device: Annotated[
        str,
        typer.Option(
            help="Device to compute on: cpu, cuda, cuda:N for GPU number N, counted from 0, or all for all GPUs, with "
            "a process for each one.",
            rich_help_panel=_RUN_PANEL,
        ),
    ] = "cpu",
) -> None:
    """Predict the dielectric tensors of many crystals, and rank the crystals.

    Write part-*.parquet (tensors, structures, and what the source says of each crystal), ranking.csv, unranked.csv
    (crystals that are left out of the ranking, and why), rejected.csv (crystals that could not be used, and why),
    plot.png and summary.json. A crystal that cannot be used never stops the others.

    Tensors are in the Cartesian frame in which a file gives the cell. A CIF gives no such frame: c is along z, and a in
    the plane of x and z, as in pymatgen. The parts list the lattice vectors, and describe their columns.

    The columns warnings and warning_codes say where the model does not apply, or where its numbers cannot be right.

    Stopped at any moment, by Ctrl-C, SIGTERM or a crash, the same command goes on where it was. Ctrl-C and SIGTERM
    write the results of the crystals predicted until then.

    Exit code: 0 all crystals were predicted, 3 some were rejected, 2 nothing could be done, 130 stopped by Ctrl-C or
    SIGTERM.
    """
    from ..screening.input_chunks import plan_bundled, plan_files
    from ..screening.ranking import RankingRules
    from ..screening.screening_run import ScreeningOptions, make_manifest, output_parts, parse_shard

    with _sigterm_as_ctrl_c(), _ending_quietly():
        rules = RankingRules(
            *(sort_by, lowest_first, where, split_elements(elements), split_elements(without), rank_unreliable),
            *(rank_duplicates, per_prototype, pareto),
        )
        devices = list_devices() if device == ALL_DEVICES and not merge else []
        predictor = load_model(model, threads, "cpu" if device == ALL_DEVICES else device, "screen")
        _check_charges(predictor, born_charges)
        _check_rules(rules, predictor.targets)
        parts = output_parts(output)
        _check_folder(output)
        share = parse_shard(shard)
        if fresh and share.of > 1:
            raise typer.BadParameter(
                "would remove the parts of other shares: remove the folder before the first one starts",
                param_hint="--fresh with --shard",
            )
        lock_name = "screening" if merge else share.name
        with ExitStack() as lock:
            lock.enter_context(parts.locked(lock_name))
            try:
                inputs = plan_files(paths, output) if paths else plan_bundled(predictor.elements)
            except KeyboardInterrupt:
                # Before the first prediction, for example while folders are listed.
                _print_stopped(0)
                raise typer.Exit(STOPPED) from None
            if inputs.notice:
                stderr().print(inputs.notice)
            if not inputs.chunks:
                _refuse_nothing(inputs, paths or [])
            if fresh:
                parts.remove()
            options = ScreeningOptions(batch_atoms, born_charges, _num_readers(readers, inputs, device), share)
            parts.begin(make_manifest(predictor, model, inputs, list(map(str, paths or [])), options, command_line()))
            if merge:
                seconds, stopped, failures = 0.0, False, _NO_FAILURES
            elif devices:
                # The processes take locks themselves.
                lock.close()
                seconds, stopped = screen_on_all(devices, paths or [], model, output, options, threads)
                failures = _NO_FAILURES
                lock.enter_context(parts.locked(lock_name))
            else:
                seconds, stopped, failures = _screen(predictor, model, inputs, parts, options)
            if share.of > 1 and not merge:
                _end_share(parts, share.name, stopped)
                return
            if merge or not stopped:
                from ..screening.finish import require_all_chunks

                require_all_chunks(parts, len(inputs.chunks))
            facts = {
                "seconds": round(seconds, 3),
                "stopped": stopped,
                "left_out_for_unknown_elements": inputs.num_left_out,
                "symmetry_not_used": len(failures),
                "born_charges": born_charges,
            }
            results = _Results(parts, model, rules, top, find_duplicates and not stopped, inputs.rejected, facts)
            _write_results(results)


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM, which queue systems send before they kill, end the work as Ctrl-C does."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not in the main thread, where Python allows no handlers
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _check_charges(predictor: Predictor, born_charges: bool) -> None:
    if born_charges and not predictor.has_born_charges:
        raise typer.BadParameter(
            "needs a model with Born charges (dtnn-fast train with training.born_weight)", param_hint="--born-charges"
        )


def _check_rules(rules: RankingRules, targets: Sequence[str]) -> None:
    """Find what can be wrong in an expression before hours of work; columns of the source are not known yet."""
    from ..screening.ranking import check_expressions

    try:
        check_expressions(rules, targets)
    except DTNNError as error:
        raise typer.BadParameter(str(error), param_hint="--sort-by, --where, --elements") from None


def _check_folder(output: Path) -> None:
    """Check before hours of work that results can be written."""
    import tempfile

    from ..errors import optional_import

    for package, purpose in (("pyarrow", "write parts"), ("duckdb", "rank crystals"), ("matplotlib", "draw plot.png")):
        optional_import(package, extra="cli", purpose=purpose)
    for name in RESULT_FILES:
        if (output / name).is_dir():
            raise BadFileError(f"{output / name}: is a folder, where a file of results must go")
    try:
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise BadFileError(f"{output}: results cannot be written there: {error.strerror or error}") from error


def _refuse_nothing(inputs: ScreeningInput, paths: Sequence[Path]) -> None:
    from ..formats.reading import known_file_names

    if inputs.rejected:
        more = f" (and {len(inputs.rejected) - 1} more)" if len(inputs.rejected) > 1 else ""
        raise DTNNError(f"nothing could be predicted: {describe(inputs.rejected[0])}{more}")
    raise DTNNError(f"no crystals found in {', '.join(map(str, paths))}: expected files named {known_file_names()}")


def _num_readers(asked: int | None, inputs: ScreeningInput, device: str) -> int:
    """Choose the number of reading processes, where the user does not."""
    import os

    if asked is not None:
        return asked
    if inputs.in_memory or sum(chunk.size for chunk in inputs.chunks) < _BYTES_FOR_READERS:
        return 0
    cores = len(os.sched_getaffinity(0))
    # On the CPU the model needs the cores too. A reader keeps up with one or two threads of the model.
    return max(1, cores // 3) if device == "cpu" else max(1, cores - 1)


def _screen(
    predictor: Predictor, model: str, inputs: ScreeningInput, parts: Parts, options: ScreeningOptions
) -> tuple[float, bool, Mapping[str, str]]:
    """Screen with a progress bar.

    Returns:
        Seconds, whether Ctrl-C ended it, and for each crystal whose symmetry could not be used the reason.
    """
    from ..nn.reduced_graph import collected_failures
    from ..screening.screening_run import run_screening

    start = time.perf_counter()
    with collected_failures() as failures, ScreeningProgress() as progress:
        counts = run_screening(predictor, model, inputs, parts, options, progress)
    seconds = time.perf_counter() - start
    done = counts.predicted + counts.rejected
    if counts.stopped:
        _print_stopped(counts.predicted)
    elif done:
        stderr().print(
            f"{counts.predicted:,} crystals in {seconds:.1f} s ({counts.predicted / seconds:.0f} per second)"
        )
    else:
        stderr().print("all crystals were predicted by an earlier start; --fresh predicts them anew")
    if failures:
        label, reason = next(iter(failures.items()))
        stderr().print(
            f"the symmetry of {len(failures):,} crystals could not be used, so all their atoms were computed: "
            f"{label}: {reason}"
        )
    return seconds, counts.stopped, failures


def _print_stopped(num_predicted: int) -> None:
    stderr().print(
        f"stopped: {num_predicted:,} crystals were predicted, the remaining crystals were skipped; the same command "
        "goes on",
        style="yellow",
    )


def _end_share(parts: Parts, name: str, stopped: bool) -> None:
    if stopped:
        raise typer.Exit(STOPPED)
    stdout().print(f"{name} is done: {parts.folder}. When all shares are, --merge makes the ranking")


def _write_results(results: _Results) -> None:
    from ..screening.finish import make_ids_unique, mark_duplicates, write_rejected_csv
    from ..screening.ranking import open_ranking
    from ..screening.report import plot_screening

    folder, files = results.parts.folder, results.parts.part_files()
    # Not before all parts are there: otherwise the suffixes would depend on what was done first.
    renamed = 0 if results.facts["stopped"] else make_ids_unique(files)
    if renamed:
        stderr().print(f"{renamed:,} ids occurred before, and have a suffix such as #2")
    num_rejected = write_rejected_csv(folder / REJECTED_FILE, results.parts, results.others_rejected)
    if results.find_duplicates and mark_duplicates(files) is None:
        stderr().print("duplicates were not searched for: pymatgen is not installed (pip install 'dtnn-fast[io]')")
    if not files:
        raise typer.Exit(STOPPED)
    with _keeping_predictions(folder), open_ranking([folder], results.rules) as ranking:
        num_predicted = ranking.count_all()
        if not num_predicted:
            if results.facts["stopped"]:
                raise typer.Exit(STOPPED)
            _refuse_all(results, num_rejected)
        written = write_and_print(ranking, folder, results.top)
        warn_few(ranking)
        plot_screening(folder / PLOT_FILE, ranking)
        summary = {
            "command": command_line(),
            "model": results.model,
            "targets": list(ranking.targets),
            "sorted_by": ranking.value_name,
            "lowest_first": results.rules.lowest_first,
            "rank_unreliable": results.rules.rank_unreliable,
            "predicted": num_predicted,
            "ranked": ranking.count(),
            "not_ranked": ranking.reasons(),
            "rejected": num_rejected,
            "warnings": ranking.warning_counts(),
            **results.facts,
        }
    _write_summary(folder / SUMMARY_FILE, summary)
    others = [folder / name for name in (REJECTED_FILE, PLOT_FILE, SUMMARY_FILE)]
    parts_text = str(files[0]) if len(files) == 1 else f"{folder / 'part-*.parquet'} ({len(files)})"
    stdout().print(f"results: {', '.join([parts_text, *map(str, [*written, *others])])}")
    if results.facts["stopped"]:
        raise typer.Exit(STOPPED)
    if num_rejected:
        stderr().print(f"{num_rejected:,} rejected: see {folder / REJECTED_FILE}", style="yellow")
        raise typer.Exit(SOME_REJECTED)


@contextmanager
def _ending_quietly() -> Iterator[None]:
    """Say that nothing is lost where Ctrl-C or SIGTERM comes before or after the predictions."""
    try:
        yield
        return
    except KeyboardInterrupt:
        pass
    except RuntimeError as error:
        # What DuckDB makes of Ctrl-C.
        if "interrupted" not in str(error).lower():
            raise
    stderr().print("stopped: the results are not complete; the same command goes on", style="yellow")
    raise typer.Exit(STOPPED)


@contextmanager
def _keeping_predictions(folder: Path) -> Iterator[None]:
    """Say that nothing is lost where a ranking fails, for example by a column that no source has."""
    from ..screening.ranking import RankingError

    try:
        yield
    except RankingError as error:
        raise DTNNError(f"{error}\nThe predictions are in {folder}: rank them with dtnn-fast rank {folder}") from error
    except OSError as error:
        raise BadFileError(
            f"{error.filename or folder}: results cannot be written: {error.strerror or error}. The predictions stay "
            f"in {folder}: make room and start again with the same command"
        ) from error


def _refuse_all(results: _Results, num_rejected: int) -> None:
    """Say why nothing was predicted.

    Raises:
        DTNNError: always.
    """
    from itertools import chain

    from ..formats.reading import known_file_names
    from ..screening.finish import rejected_of

    first = next(chain(results.others_rejected, rejected_of(results.parts)), None)
    if first is None:
        raise DTNNError(f"no crystals found: expected files named {known_file_names()}")
    more = f" (and {num_rejected - 1} more)" if num_rejected > 1 else ""
    raise DTNNError(f"nothing could be predicted: {describe(first)}{more}")


def _write_summary(path: Path, summary: dict[str, Any]) -> None:
    import torch

    from ..files import replacing
    from ..training.run_folder import versions

    content = {**summary, "threads": torch.get_num_threads(), "versions": versions()}
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

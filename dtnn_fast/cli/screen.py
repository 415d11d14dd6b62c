# SPDX-License-Identifier: MIT
"""dtnn-fast screen: predict the dielectric tensors of many crystals, and rank the crystals."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import BadFileError, DTNNError
from . import STOPPED
from .console import command_line, counted, stderr, stdout
from .options import CRYSTAL_FILES, FunctionalOption, ModelOption, ThreadsOption, load_model
from .progress import ScreeningProgress
from .ranking_options import (
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
)
from .screen_devices import ALL_DEVICES, list_devices, screen_on_all
from .screening_results import RESULT_FILES, ScreeningResults, refuse_nothing, require_all, write_results
from .stop_signals import ending_quietly, sigterm_as_ctrl_c

if TYPE_CHECKING:
    from ..model.predictor import Predictor
    from ..screening.input_chunks import ScreeningInput
    from ..screening.parts import Parts
    from ..screening.ranking import RankingRules
    from ..screening.ray_engine import RayOptions
    from ..screening.screening_run import ScreeningOptions, Shard

# Raw files of fewer bytes are read in this process: another one takes a second to start.
_BYTES_FOR_READERS = 4 * 2**20
_RUN_PANEL = "The run"
_NO_FAILURES: Mapping[str, str] = {}


class MatmulPrecision(StrEnum):
    """Settings of ``torch.set_float32_matmul_precision``."""

    highest = "highest"
    high = "high"
    medium = "medium"


class Engine(StrEnum):
    """What runs a screening."""

    LOCAL = "local"
    RAY = "ray"


def screen(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PATHS",
            show_default=False,
            help=f"{CRYSTAL_FILES} Without a path, the crystals bundled with dtnn-fast are screened.",
        ),
    ] = None,
    model: ModelOption = "dielectric",
    functional: FunctionalOption = "",
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            file_okay=False,
            help="Folder for the results, created if missing. An interrupted screening in it is continued.",
        ),
    ] = Path("screening"),
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh", help="Delete the part files of an earlier screening in --output first, instead of continuing it."
        ),
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
            help="Whether to mark crystals that have the same structure as an earlier one (by pymatgen's "
            "StructureMatcher).",
            rich_help_panel=_RUN_PANEL,
        ),
    ] = True,
    born_charges: Annotated[
        bool,
        typer.Option(
            "--born-charges",
            help="Also predict the Born effective charges of all atoms, in units of e, and write them to the part "
            "files, with the atoms in the order of the input file. Needs a model with Born charges (dtnn-fast train "
            "--set training.born_weight=0.5).",
        ),
    ] = False,
    shard: Annotated[
        str,
        typer.Option(
            help="Screen only one share of the input: 3/8 is the third of eight shares. All shares use the same "
            "--output; afterwards --merge makes the ranking.",
            rich_help_panel=_RUN_PANEL,
        ),
    ] = "1/1",
    merge: Annotated[
        bool,
        typer.Option(
            "--merge",
            help="Predict nothing; check that all shares are in --output, and make the ranking.",
            rich_help_panel=_RUN_PANEL,
        ),
    ] = False,
    readers: Annotated[
        int | None,
        typer.Option(
            min=0,
            show_default="chosen from the size of the input and the number of cores",
            help="Number of additional processes that read crystals and find their symmetry. With 0 the main process "
            "does it.",
            rich_help_panel=_RUN_PANEL,
        ),
    ] = None,
    batch_atoms: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default="1024 on a CPU; on a GPU chosen from its free memory",
            help="Maximum number of atoms per batch. A larger crystal is a batch by itself. Smaller batches need less "
            "memory.",
            rich_help_panel=_RUN_PANEL,
        ),
    ] = None,
    threads: ThreadsOption = None,
    device: Annotated[
        str,
        typer.Option(
            help="Device to compute on: cpu, cuda (the current GPU), cuda:N for GPU number N, counted from 0, or all "
            "for all GPUs of this machine, one process each.",
            rich_help_panel=_RUN_PANEL,
        ),
    ] = "cpu",
    matmul_precision: Annotated[
        MatmulPrecision,
        typer.Option(
            help="Precision of matrix products, as in torch.set_float32_matmul_precision: highest computes in float32, "
            "medium in bfloat16 with sums in float32, which is faster on CPUs with AVX-512 BF16 and changes tensors by "
            "0.1 to 0.2 %. high is tf32 on a GPU, and float32 on a CPU. Devices without the format use float32.",
            rich_help_panel=_RUN_PANEL,
        ),
    ] = MatmulPrecision.highest,
    engine: Annotated[
        Engine,
        typer.Option(
            help="How the screening is run: local uses this process and its --readers, ray uses Ray on this machine or "
            "on a cluster. The results are the same. With ray, --threads (default 1) and --device (cpu or cuda) apply "
            "to each Ray actor, and Ray starts as many actors as there are cores or GPUs.",
            rich_help_panel=_RUN_PANEL,
        ),
    ] = Engine.LOCAL,
    ray_address: Annotated[
        str | None,
        typer.Option(
            show_default="start Ray on this machine",
            help="With --engine ray: address of a running Ray cluster, such as auto or ray-head:6379. All nodes must "
            "see the input and --output under the same paths.",
            rich_help_panel=_RUN_PANEL,
        ),
    ] = None,
) -> None:
    """Predict the dielectric tensors of many crystals, and rank the crystals.

    The results are part-*.parquet (tensors, structures and the properties given in the input), ranking.csv,
    unranked.csv (crystals left out of the ranking, with the reason), rejected.csv (crystals that could not be used,
    with the reason), plot.png and summary.json. A crystal that cannot be used never stops the others.

    Tensors are in the Cartesian frame in which a file gives the cell. A CIF gives no such frame: c is along z, and a in
    the plane of x and z, as in pymatgen. The part files list the lattice vectors and describe their columns.

    The columns warnings and warning_codes tell where the model does not apply or its numbers cannot be right.

    After an interruption by Ctrl-C, SIGTERM or a crash, run the same command again to continue. Ctrl-C and SIGTERM
    first write the results of the crystals predicted so far.

    Exit code: 0 all crystals were predicted, 3 some were rejected, 2 nothing could be done, 130 stopped by Ctrl-C or
    SIGTERM.
    """
    from ..screening.input_chunks import plan_bundled, plan_files
    from ..screening.ranking import RankingRules
    from ..screening.screening_run import ScreeningOptions, make_manifest, output_parts, parse_shard

    with sigterm_as_ctrl_c(), ending_quietly(), _matmul_precision(matmul_precision):
        rules = RankingRules(
            *(sort_by, lowest_first, where, split_elements(elements), split_elements(without), rank_unreliable),
            *(rank_duplicates, per_prototype, pareto),
        )
        ray_options = _ray_options(engine, ray_address, threads, device, readers)
        devices = list_devices() if device == ALL_DEVICES and not merge else []
        # With Ray, and with all GPUs, the model goes to the devices of other processes.
        is_elsewhere = ray_options is not None or device == ALL_DEVICES
        model_threads = threads if ray_options is None else ray_options.threads
        predictor = load_model(model, model_threads, "cpu" if is_elsewhere else device, "screen", functional)
        _check_charges(predictor, born_charges)
        _check_rules(rules, predictor.targets)
        parts = output_parts(output)
        _check_folder(output)
        share = parse_shard(shard)
        _check_fresh(fresh, share)
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
                refuse_nothing(inputs, paths or [])
            if fresh:
                parts.remove()
            num_readers = _share_cores(readers, threads, inputs, device)
            options = ScreeningOptions(batch_atoms, born_charges, num_readers, share)
            parts.begin(make_manifest(predictor, model, inputs, list(map(str, paths or [])), options, command_line()))
            if merge:
                seconds, stopped, failures = 0.0, False, _NO_FAILURES
            elif devices:
                # The processes take locks themselves.
                lock.close()
                seconds, stopped = screen_on_all(devices, paths or [], model, output, options, threads, functional)
                failures = _NO_FAILURES
                lock.enter_context(parts.locked(lock_name))
            else:
                seconds, stopped, failures = _screen(predictor, model, inputs, parts, options, ray_options)
            if share.of > 1 and not merge:
                _end_share(parts, share.name, stopped)
                return
            if merge or not stopped:
                require_all(parts, inputs)
            facts = {
                "seconds": round(seconds, 3),
                "stopped": stopped,
                "left_out_for_unknown_elements": inputs.num_left_out,
                "symmetry_not_used": len(failures),
                "born_charges": born_charges,
                "functional": predictor.functional or None,
            }
            marks_duplicates = find_duplicates and not stopped
            write_results(ScreeningResults(parts, model, rules, top, marks_duplicates, inputs, facts))


@contextmanager
def _matmul_precision(precision: MatmulPrecision) -> Iterator[None]:
    """Set the precision of products for the time of the screening; "highest" leaves torch's own setting."""
    import torch

    before = torch.get_float32_matmul_precision()
    if precision != MatmulPrecision.highest:
        torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _check_charges(predictor: Predictor, born_charges: bool) -> None:
    if born_charges and not predictor.has_born_charges:
        raise typer.BadParameter(
            "needs a model with Born charges (dtnn-fast train with training.born_weight)", param_hint="--born-charges"
        )


def _check_fresh(fresh: bool, share: Shard) -> None:
    if fresh and share.of > 1:
        raise typer.BadParameter(
            "would delete the part files of other shares: delete the folder before the first share starts",
            param_hint="--fresh with --shard",
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
            raise BadFileError(f"{output / name}: is a folder, but the results need a file of this name")
    try:
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise BadFileError(f"{output}: results cannot be written there: {error.strerror or error}") from error


def _num_readers(asked: int | None, inputs: ScreeningInput, device: str) -> int:
    """Choose the number of reading processes, where the user does not."""
    import os

    if asked is not None:
        return asked
    if inputs.in_memory or sum(chunk.size for chunk in inputs.chunks) < _BYTES_FOR_READERS:
        return 0
    if _is_packed(inputs):
        return 1
    # To read a CIF and to find its symmetry takes about as long as to predict it on one thread.
    return len(os.sched_getaffinity(0))


def _is_packed(inputs: ScreeningInput) -> bool:
    """Tell whether reading takes hardly any time, as of shards of dtnn-fast pack."""
    from ..formats.crystal_shards import LIST_FILE

    first = [Path(chunk.files[0]) for chunk in inputs.chunks if chunk.files]
    return bool(first) and all((file.parent / LIST_FILE).exists() for file in first)


def _share_cores(asked: int | None, threads: int | None, inputs: ScreeningInput, device: str) -> int:
    """Choose the number of reading processes, and leave cores to them where the user does not say how many threads.

    Returns:
        The number of reading processes.
    """
    import os

    import torch

    num_readers = _num_readers(asked, inputs, device)
    if threads is None and device == "cpu" and num_readers and not _is_packed(inputs):
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // 2))
    return num_readers


def _ray_options(
    engine: Engine, address: str | None, threads: int | None, device: str, readers: int | None
) -> RayOptions | None:
    """Check the options of Ray; None where it is not asked for."""
    if engine is Engine.LOCAL:
        if address is not None:
            raise typer.BadParameter("needs --engine ray", param_hint="--ray-address")
        return None
    from ..screening.ray_engine import RayOptions
    from ..screening.ray_workers import import_ray

    if device not in ("cpu", "cuda"):
        raise typer.BadParameter(f"--engine ray takes cpu or cuda, got {device!r}", param_hint="--device")
    if readers is not None:
        raise typer.BadParameter("--engine ray decides how many tasks read", param_hint="--readers")
    import_ray()
    return RayOptions(address, device, threads or 1)


def _screen(
    predictor: Predictor,
    model: str,
    inputs: ScreeningInput,
    parts: Parts,
    options: ScreeningOptions,
    ray_options: RayOptions | None,
) -> tuple[float, bool, Mapping[str, str]]:
    """Screen with a progress bar.

    Returns:
        Seconds, whether Ctrl-C ended it, and for each crystal whose symmetry could not be used the reason.
    """
    from ..nn.reduced_graph import collected_failures
    from ..screening.screening_run import run_screening

    start = time.perf_counter()
    with collected_failures() as failures, ScreeningProgress() as progress:
        if ray_options is None:
            counts = run_screening(predictor, model, inputs, parts, options, progress)
        else:
            from ..screening.ray_engine import run_screening_on_ray

            counts = run_screening_on_ray(predictor, model, inputs, parts, options, ray_options, progress)
    seconds = time.perf_counter() - start
    done = counts.predicted + counts.rejected
    if counts.stopped:
        _print_stopped(counts.predicted)
    elif done:
        stderr().print(
            f"{counted(counts.predicted, 'crystal')} in {seconds:.1f} s ({counts.predicted / seconds:.0f} per second)"
        )
    elif not options.shard.chunks(len(inputs.chunks)):
        stderr().print(f"nothing to do for this shard: the input has only {counted(len(inputs.chunks), 'chunk')}")
    else:
        stderr().print("all crystals were already predicted by an earlier run; --fresh predicts them again")
    if failures:
        label, reason = next(iter(failures.items()))
        stderr().print(
            f"the symmetry of {len(failures):,} crystals could not be used, so all their atoms were computed: "
            f"{label}: {reason}"
        )
    return seconds, counts.stopped, failures


def _print_stopped(num_predicted: int) -> None:
    stderr().print(
        f"stopped: {num_predicted:,} crystals were predicted, the remaining crystals were skipped; run the same "
        "command again to continue",
        style="yellow",
    )


def _end_share(parts: Parts, name: str, stopped: bool) -> None:
    if stopped:
        raise typer.Exit(STOPPED)
    stdout().print(f"{name} is done: {parts.folder}. When all shares are done, --merge makes the ranking")

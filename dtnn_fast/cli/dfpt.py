# SPDX-License-Identifier: MIT
"""The command dfpt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ..errors import DTNNError
from .console import stderr, stdout
from .options import ModelOption, ThreadsOption, describe, exit_with, load_model

if TYPE_CHECKING:
    from ..crystals.crystal import Rejected
    from ..dfpt.collect import CollectedRuns, Comparison
    from ..dfpt.predicted import PredictedCrystal

_NO_VALUE = "-"


def dfpt(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="SCREENING|FILES",
            show_default=False,
            help="The folder of a screening, from which --ids or --top select crystals; or crystal files, from which "
            "all crystals or those of --ids are taken and predicted first.",
        ),
    ] = None,
    ids: Annotated[
        str | None,
        typer.Option(show_default=False, help="Ids of the crystals to calculate, such as 'mp-5229,mp-441'."),
    ] = None,
    top: Annotated[
        int | None, typer.Option(min=1, show_default=False, help="Calculate the first N crystals of ranking.csv.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            show_default=False,
            help="New or empty folder for the inputs. With --collect: file for the labels, which must end in .jsonl; "
            "by default labels.jsonl in the collected folder.",
        ),
    ] = None,
    collect: Annotated[
        Path | None,
        typer.Option(
            "--collect",
            file_okay=False,
            show_default=False,
            help="Instead of writing inputs, read the finished calculations in a folder that this command wrote.",
        ),
    ] = None,
    model: ModelOption = "dielectric",
    threads: ThreadsOption = None,
) -> None:
    """Write VASP inputs for the dielectric tensors of candidates, and compare the results with the predictions.

    Each crystal gets a folder with relax/ (tight relaxation) and dielectric/ (LEPSILON, IBRION = 8). The settings are
    pymatgen's input sets of the Materials Project: PBE, with U for oxides and fluorides of transition metals. POTCAR is
    written if pymatgen is set up for it, otherwise POTCAR.spec with the names. dfpt_flow.py runs all calculations with
    atomate2.

    --collect reads vasprun.xml (or OUTCAR), prints predicted beside computed values, and writes comparison.csv and
    labels for dtnn-fast train. Computed tensors are rotated into the frame of the prediction.

    Exit code: 0 all done, 3 some crystals were rejected, not yet calculated or not converged (stderr says why), 2
    nothing could be done.
    """
    if collect is not None:
        if paths or ids is not None or top is not None:
            raise typer.BadParameter("cannot be combined with SCREENING, FILES, --ids or --top", param_hint="--collect")
        _collect(collect, output)
        return
    if not paths:
        raise typer.BadParameter("expected the folder of a screening, files, or --collect", param_hint="SCREENING")
    if output is None:
        raise typer.BadParameter("expected a folder for the inputs", param_hint="--output")
    wanted = _read_ids(ids, top)
    if len(paths) == 1 and paths[0].is_dir() and any(paths[0].glob("part-*.parquet")):
        predicted, rejected = _from_screening(paths[0], wanted, top)
    elif top is not None:
        raise typer.BadParameter("needs the folder of a screening", param_hint="--top")
    else:
        predicted, rejected = _from_files(paths, wanted, model, threads)
    _write(output, predicted, rejected)


def _read_ids(ids: str | None, top: int | None) -> list[str] | None:
    if ids is None:
        return None
    if top is not None:
        raise typer.BadParameter("expected one of --ids and --top, got both", param_hint="--ids")
    wanted = ids.replace(",", " ").split()
    if not wanted:
        raise typer.BadParameter("expected ids such as 'mp-5229,mp-441', got none", param_hint="--ids")
    return wanted


def _write(output: Path, predicted: Sequence[PredictedCrystal], rejected: list[Rejected]) -> None:
    from ..dfpt.vasp_inputs import FLOW_FILE, write_inputs

    written, without_inputs = write_inputs(output, predicted) if predicted else ({}, [])
    rejected += without_inputs
    for reject in rejected:
        stderr().print(f"rejected: {describe(reject)}", style="yellow")
    if not written:
        raise DTNNError("dfpt: no inputs were written" + (f": {describe(rejected[0])}" if rejected else ""))
    for one in predicted:
        if one.crystal.id in written:
            stdout().print(f"{written[one.crystal.id]}   {one.crystal.formula}, {one.crystal.num_atoms} atoms")
    stdout().print(f"{len(written)} crystals; python {output / FLOW_FILE}, then dtnn-fast dfpt --collect {output}")
    if not any(output.rglob("POTCAR")):
        stdout().print("POTCAR.spec lists the potentials: pymatgen has no PMG_VASP_PSP_DIR to take them from")
    exit_with(rejected, "the reasons are above")


def _from_screening(
    folder: Path, wanted: Sequence[str] | None, top: int | None
) -> tuple[list[PredictedCrystal], list[Rejected]]:
    from ..dfpt.predicted import read_screening
    from ..refinement.ranked_ids import read_best

    if wanted is None and top is None:
        raise typer.BadParameter("expected --ids or --top with the folder of a screening", param_hint="--ids")
    if wanted is None:
        assert top is not None
        wanted = [ranked.id for ranked in read_best(folder, top)]
    return read_screening(folder, list(dict.fromkeys(wanted)))


def _from_files(
    paths: Sequence[Path], wanted: Sequence[str] | None, model: str, threads: int | None
) -> tuple[list[PredictedCrystal], list[Rejected]]:
    from ..crystals.crystal import Crystal, Rejected
    from ..dfpt.predicted import predict_crystals
    from ..screening.sources import open_source

    found = open_source(paths, ())
    items = list(found.read())
    rejected = [*found.rejected, *(item for item in items if isinstance(item, Rejected))]
    crystals = [item for item in items if isinstance(item, Crystal)]
    if wanted is not None:
        by_id = {crystal.id: crystal for crystal in crystals}
        rejected += [Rejected(id, "", "no crystal of the files has this id") for id in wanted if id not in by_id]
        crystals = [by_id[id] for id in dict.fromkeys(wanted) if id in by_id]
    if not crystals:
        return [], rejected
    predicted, failed = predict_crystals(crystals, load_model(model, threads, "cpu", "dfpt"))
    return predicted, [*rejected, *failed]


def _collect(folder: Path, output: Path | None) -> None:
    from ..dfpt.collect import collect_runs, write_comparison, write_labels

    labels = folder / "labels.jsonl" if output is None else output
    if labels.suffix != ".jsonl":
        raise typer.BadParameter(f"expected a name that ends in .jsonl, got {labels}", param_hint="--output")
    if not labels.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {labels.parent}", param_hint="--output")
    collected = collect_runs(folder)
    for reject in collected.rejected:
        stderr().print(f"rejected: {describe(reject)}", style="yellow")
    if not collected.comparisons:
        raise DTNNError(f"dfpt: no calculation in {folder} can be used")
    _print_table(collected)
    table = labels.with_name("comparison.csv")
    write_labels(labels, collected.comparisons)
    write_comparison(table, collected.comparisons)
    stdout().print(f"results: {labels}, {table}   (dtnn-fast train {labels})")
    exit_with(collected.rejected, "the reasons are above")


def _print_table(collected: CollectedRuns) -> None:
    table = Table(title="Relative permittivity, predicted / computed (means, a third of the trace)", box=None)
    table.add_column("id", overflow="fold")
    table.add_column("formula")
    names = ("electronic", "ionic", "total", "error of the total", "error bar", "tensor error", "volume")
    for name in names:
        table.add_column(name, justify="right", style="bold" if name == "total" else "")
    for one in collected.comparisons:
        table.add_row(
            one.label.id + (" !" if one.remarks else ""),
            one.label.formula,
            *(_pair(one, target) for target in ("electronic", "ionic", "total")),
            *_errors(one),
            f"{100 * one.volume_change:+.1f} %",
        )
    stdout().print(table)
    for one in collected.comparisons:
        for remark in one.remarks:
            stdout().print(f"! {one.label.id}: {remark}")


def _pair(one: Comparison, target: str) -> str:
    return " / ".join(_NO_VALUE if value is None else f"{value:.2f}" for value in one.means(target))


def _errors(one: Comparison) -> tuple[str, str, str]:
    predicted, computed = one.means("total")
    relative = _NO_VALUE if predicted is None or computed is None else f"{100 * (predicted / computed - 1):+.0f} %"
    bar, tensor = one.predicted.mean_errors.get("total"), one.tensor_error("total")
    return relative, _NO_VALUE if bar is None else f"± {bar:.2f}", _NO_VALUE if tensor is None else f"{tensor:.2f}"

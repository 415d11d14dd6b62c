# SPDX-License-Identifier: MIT
"""The command evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import command_line, counted, stderr, stdout
from .options import (
    BUNDLED_MODEL,
    DeviceOption,
    ModelOption,
    RunCleanOption,
    RunDataOption,
    SplitBy,
    ThreadsOption,
    exit_with,
)

REJECTED_FILE, ERRORS_FILE, RANKING_FILE = "rejected.csv", "errors.csv", "ranking.csv"


def evaluate(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUNS",
            show_default=False,
            help="Run folders of dtnn-fast train, or of any other model that writes settings.json, results.json and "
            "predictions.npz. Folders are searched for run folders at any depth.",
        ),
    ] = None,
    textbook: Annotated[
        bool,
        typer.Option(
            "--textbook",
            help="Instead of comparing runs, evaluate --model on thirty textbook crystals, against theory and "
            "experiment.",
        ),
    ] = False,
    labelled: Annotated[
        list[Path] | None,
        typer.Option(
            show_default=False,
            help="Instead of comparing runs, evaluate --model on this file or folder of labelled crystals, such as "
            ".jsonl or a packed set (.npz). Errors on crystals that the model was trained on are listed separately. "
            "Can be repeated.",
        ),
    ] = None,
    model: ModelOption = BUNDLED_MODEL,
    lattice: Annotated[
        str | None,
        typer.Option(
            metavar="lattice|FOLDER",
            show_default="with --textbook and the bundled --model: lattice; otherwise no refinement",
            help="With --textbook or --labelled: also refine the ionic tensors as dtnn-fast refine does, with this "
            "model of Born charges and force constants: 'lattice' (bundled), or the folder of a model from dtnn-fast "
            "train-lattice.",
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            file_okay=False,
            help="Folder for figures and CSV files, created if missing. Those of an earlier evaluation are replaced.",
        ),
    ] = Path("evaluation"),
    markdown: Annotated[
        Path | None,
        typer.Option(
            show_default=False,
            dir_okay=False,
            help="Markdown page to write, with all tables and figures, and the commands, hardware and training times "
            "of the runs. By default, no page is written.",
        ),
    ] = None,
    notes: Annotated[
        Path | None,
        typer.Option(
            show_default=False,
            exists=True,
            dir_okay=False,
            help="With --markdown: existing Markdown file that the page links to at its top, for example about how "
            "settings were chosen.",
        ),
    ] = None,
    show: Annotated[
        str | None,
        typer.Option(
            show_default="the DTNN model with the lowest validation error",
            help="Name of the model whose errors by element and crystal system are drawn.",
        ),
    ] = None,
    split_by: Annotated[
        SplitBy | None,
        typer.Option(
            show_default="the split of most runs",
            help="Compare only runs whose splits were made this way (data.split_by of train): crystals is a random "
            "split, structures and systems keep crystals of the same structure or chemical system together.",
        ),
    ] = None,
    data: RunDataOption = None,
    clean: RunCleanOption = True,
    threads: ThreadsOption = None,
    device: DeviceOption = "cpu",
) -> None:
    """Compare trained models on their test crystals, or evaluate a model on textbook or other labelled crystals.

    The errors of all models are printed by crystal system, as mean and standard deviation over the splits, with the
    best in bold, and drawn as figures. Runs with the same label (dtnn-fast train --label NAME) belong to one model;
    runs without a label are grouped by the name of their folder. Only runs on the same crystals and tensors are
    compared. Other runs are listed in rejected.csv and never stop the evaluation.

    With --textbook, the means of thirty textbook crystals are compared with theory and experiment (textbook.csv). With
    --labelled, the errors on labelled crystals are printed (labelled.csv), and --clean leaves out labels that cannot be
    right. With --lattice, refined tensors are evaluated too; those of labelled crystals are in refined.csv.

    Exit code: 0 everything was used, 3 some runs or crystals were rejected or lack splits, 2 nothing could be compared.
    """
    if bool(runs) + textbook + bool(labelled) != 1:
        raise typer.BadParameter("expected either run folders, --textbook or --labelled FILE", param_hint="RUNS")
    if lattice is not None and runs:
        raise typer.BadParameter("needs --textbook or --labelled, got run folders", param_hint="--lattice")
    if textbook or labelled:
        from .evaluate_model import evaluate_on_labelled, evaluate_on_textbook

        if textbook:
            evaluate_on_textbook(model, lattice, output, markdown, threads, device)
        else:
            evaluate_on_labelled(labelled or [], model, lattice, output, markdown, clean, threads, device)
        return
    from ..crystals.crystal import write_rejected
    from ..errors import optional_import
    from ..evaluation.evaluation import evaluate as evaluate_runs
    from ..evaluation.evaluation import targets_of
    from ..evaluation.figures import write_figures
    from ..evaluation.page import write_page
    from ..evaluation.runs import DataSet, find_runs, read_runs, usual_split
    from ..evaluation.tables import tables_by_section, write_errors, write_ranking
    from .error_tables import print_tables
    from .training_inputs import load_training_data

    optional_import("matplotlib", extra="cli", purpose="draw the figures")
    folders, without_runs = find_runs(runs or [])
    finished_runs, unreadable = read_runs(folders)
    output.mkdir(parents=True, exist_ok=True)
    write_rejected(output / REJECTED_FILE, [*without_runs, *unreadable])
    crystals, _ = load_training_data(data or [], targets_of(finished_runs), clean)
    compared = DataSet(crystals, split_by or usual_split(finished_runs))
    evaluation = evaluate_runs(finished_runs, compared, [*without_runs, *unreadable])
    evaluation.models_in_detail(show)  # an unknown name is an error before anything is drawn
    write_rejected(output / REJECTED_FILE, evaluation.rejected)
    write_errors(output / ERRORS_FILE, evaluation.errors)
    write_ranking(output / RANKING_FILE, evaluation.errors)
    pictures = write_figures(output, evaluation, show)
    if markdown is not None:
        write_page(markdown, evaluation, pictures, command_line(), notes)
    print_tables(stdout(), [table for tables in tables_by_section(evaluation).values() for table in tables])
    written = [
        output / ERRORS_FILE,
        output / RANKING_FILE,
        *(picture for _, picture in pictures),
        *([markdown] if markdown else []),
    ]
    stderr().print(f"{counted(len(evaluation.runs), 'run')} compared on {counted(len(crystals), 'crystal')}")
    stdout().print(f"results: {', '.join(map(str, written))}")
    exit_with(evaluation.rejected, f"see {output / REJECTED_FILE}")

# SPDX-License-Identifier: MIT
"""The command evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import command_line, stderr, stdout
from .options import RunCleanOption, RunDataOption, exit_with

REJECTED_FILE, ERRORS_FILE = "rejected.csv", "errors.csv"


def evaluate(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUNS",
            show_default=False,
            help="Run folders of dtnn-fast train, or of any model that writes settings.json, results.json and "
            "predictions.npz; or folders that hold run folders at any depth.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            file_okay=False,
            help="Folder for figures and CSV files, created if missing. Replaces those of an earlier evaluation.",
        ),
    ] = Path("evaluation"),
    markdown: Annotated[
        Path | None,
        typer.Option(
            show_default=False,
            dir_okay=False,
            help="Markdown file to write: a page with all tables and figures, and the commands, hardware and training "
            "times of the runs. By default, no page is written.",
        ),
    ] = None,
    notes: Annotated[
        Path | None,
        typer.Option(
            show_default=False,
            exists=True,
            dir_okay=False,
            help="Markdown file that this page links at its top, such as how settings were chosen.",
        ),
    ] = None,
    show: Annotated[
        str | None,
        typer.Option(
            show_default="our model with the lowest validation error",
            help="Name of the model whose errors by element and crystal system are drawn.",
        ),
    ] = None,
    data: RunDataOption = None,
    clean: RunCleanOption = True,
) -> None:
    """Compare trained models on their test crystals.

    Print the errors of all models by crystal system, as mean and standard deviation over the splits with the best in
    bold, and draw figures. Runs with the same label (dtnn-fast train --label NAME) belong to one model; runs without
    a label belong together by the name of their folder. Only runs on the same crystals and tensors are compared.
    Others are listed in rejected.csv and never stop the rest.

    Exit code: 0 all runs were used, 3 some were rejected or lack splits, 2 nothing could be compared.
    """
    from ..crystals.crystal import write_rejected
    from ..errors import optional_import
    from ..evaluation.evaluation import evaluate as evaluate_runs
    from ..evaluation.evaluation import targets_of
    from ..evaluation.figures import write_figures
    from ..evaluation.page import write_page
    from ..evaluation.runs import DataSet, find_runs, read_runs
    from ..evaluation.tables import tables_by_section, write_errors
    from .error_tables import print_tables
    from .training_inputs import load_training_data

    optional_import("matplotlib", extra="cli", purpose="draw the figures")
    folders, without_runs = find_runs(runs)
    finished_runs, unreadable = read_runs(folders)
    output.mkdir(parents=True, exist_ok=True)
    write_rejected(output / REJECTED_FILE, [*without_runs, *unreadable])
    crystals, _ = load_training_data(data or [], targets_of(finished_runs), clean)
    evaluation = evaluate_runs(finished_runs, DataSet(crystals), [*without_runs, *unreadable])
    evaluation.models_in_detail(show)  # an unknown name is an error before anything is drawn
    write_rejected(output / REJECTED_FILE, evaluation.rejected)
    write_errors(output / ERRORS_FILE, evaluation.errors)
    pictures = write_figures(output, evaluation, show)
    if markdown is not None:
        write_page(markdown, evaluation, pictures, command_line(), notes)
    print_tables(stdout(), [table for tables in tables_by_section(evaluation).values() for table in tables])
    written = [output / ERRORS_FILE, *(picture for _, picture in pictures), *([markdown] if markdown else [])]
    stderr().print(f"{len(evaluation.runs)} runs compared on {len(crystals)} crystals")
    stdout().print(f"results: {', '.join(map(str, written))}")
    exit_with(evaluation.rejected, f"see {output / REJECTED_FILE}")

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
            metavar="RUNS...",
            show_default=False,
            help="Run folders, or folders of them at any depth: of dtnn-fast train, or of any model that leaves "
            "settings.json, results.json and predictions.npz.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", file_okay=False, help="Folder for figures and CSV files; earlier ones are replaced."
        ),
    ] = Path("evaluation"),
    markdown: Annotated[
        Path | None,
        typer.Option(
            show_default=False,
            dir_okay=False,
            help="Write a page of results: tables, figures, commands, hardware, times.",
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
            show_default="of ours, the one with the lowest validation error",
            help="Model of which figures show elements and crystal systems.",
        ),
    ] = None,
    data: RunDataOption = None,
    clean: RunCleanOption = True,
) -> None:
    """Compare trained models on their test crystals.

    Prints the errors of all models by crystal system, mean and deviation over the splits, with the best in bold, and
    draws figures. Runs of one model are found by their label (dtnn-fast train --label NAME), or else by their path.
    Only runs on the same crystals and tensors are compared; others are listed in rejected.csv and do not stop the rest.

    Exit code: 0 all runs were used, 3 some were rejected or lack splits, 2 nothing could be compared.
    """
    from ..crystals.crystal import write_rejected
    from ..errors import optional_import
    from ..evaluation.evaluation import evaluate as evaluate_runs
    from ..evaluation.evaluation import targets_of, write_figures
    from ..evaluation.page import tables, write_page
    from ..evaluation.runs import DataSet, find_runs, read_runs
    from ..evaluation.tables import write_errors
    from .error_tables import print_tables
    from .training_inputs import load_training_data

    optional_import("matplotlib", extra="cli", purpose="draw the figures")
    folders, absent = find_runs(runs)
    found, unread = read_runs(folders)
    output.mkdir(parents=True, exist_ok=True)
    write_rejected(output / REJECTED_FILE, [*absent, *unread])
    crystals, _ = load_training_data(data or [], targets_of(found), clean)
    evaluation = evaluate_runs(found, DataSet(crystals), [*absent, *unread])
    evaluation.shown(show)
    write_rejected(output / REJECTED_FILE, evaluation.rejected)
    write_errors(output / ERRORS_FILE, evaluation.errors)
    pictures = write_figures(output, evaluation, show)
    if markdown is not None:
        write_page(markdown, evaluation, pictures, command_line(), notes)
    print_tables(stdout(), [table for _, members in tables(evaluation) for table in members])
    written = [output / ERRORS_FILE, *(picture for _, picture in pictures), *([markdown] if markdown else [])]
    stderr().print(f"{len(evaluation.runs)} runs compared on {len(crystals)} crystals")
    stdout().print(f"results: {', '.join(map(str, written))}")
    exit_with(evaluation.rejected, f"see {output / REJECTED_FILE}")

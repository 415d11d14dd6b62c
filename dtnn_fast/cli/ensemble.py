# SPDX-License-Identifier: MIT
"""The command ensemble: join finished runs into one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import command_line, stderr, stdout
from .options import RunCleanOption, RunDataOption


def ensemble(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUNS",
            show_default=False,
            help="Folders of two or more finished runs of dtnn-fast train on the same crystals and split. Folders with "
            "the subfolders split-0, split-1, ... of train --splits are joined split by split.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            file_okay=False,
            show_default=False,
            help="Folder for the ensemble, created if missing.",
        ),
    ],
    label: Annotated[
        str,
        typer.Option(
            show_default="none",
            help="Name of the ensemble in the tables of dtnn-fast evaluate, such as 'two encoders'.",
        ),
    ] = "",
    members: Annotated[
        int | None,
        typer.Option(
            min=2,
            show_default="all members of all runs",
            help="Total number of members, at least one from each run. They are taken from the runs in turn: member 0 "
            "of the first run, member 1 of the second, and so on. Every run must be an ensemble (train --members).",
        ),
    ] = None,
    data: RunDataOption = None,
    clean: RunCleanOption = True,
) -> None:
    """Join trained models into an ensemble: it predicts their mean, with error bars from their spread.

    Nothing is trained. A member is one encoder with its decoders. Each run contributes its members, one or several, and
    all members have equal weight. The result is a run folder like that of dtnn-fast train: use it with dtnn-fast screen
    --model OUTPUT/model, and compare it with dtnn-fast evaluate.

    Exit code: 0 all runs were joined, 2 nothing could be done.
    """
    from ..training.ensemble_runs import alternate_members, join_runs, runs_by_split
    from ..training.run_folder import MODEL_FOLDER, PREDICTIONS_FILE, load_predictions
    from .error_tables import print_error_bars, print_errors, summarise_splits
    from .training_inputs import load_training_data

    by_split = runs_by_split(runs)
    if members is not None:
        by_split = {split: alternate_members(folders, members) for split, folders in by_split.items()}
    first = next(iter(by_split.values()))[0]
    targets = tuple(load_predictions(first / PREDICTIONS_FILE).expected)
    crystals, _ = load_training_data(data or [], targets, clean)
    systems = {crystal.id: str(crystal.info["crystal_system"]) for crystal in crystals}
    results = {}
    for split, folders in by_split.items():
        folder = output if split is None else output / f"split-{split}"
        result = join_runs(folder, folders, systems, command_line(), label)
        results[split] = result
        of_split = "" if split is None else f", split {split}"
        print_errors(stdout(), result, title=f"Test errors of the ensemble{of_split}")
        print_error_bars(result["error_bars"])
        stderr().print(f"model: {folder / MODEL_FOLDER}")
    split_results = {split: result for split, result in results.items() if split is not None}
    if split_results:
        summarise_splits(stdout(), output, split_results, command_line())

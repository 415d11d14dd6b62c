# SPDX-License-Identifier: MIT
"""The command ensemble."""

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
            metavar="RUN RUN...",
            show_default=False,
            help="Finished runs of dtnn-fast train on the same crystals and split; or folders of runs on the same "
            "splits (split-0, split-1, ...), which are taken split by split.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", file_okay=False, show_default=False, help="Folder of the ensemble, made when absent."
        ),
    ],
    label: Annotated[
        str,
        typer.Option(
            show_default=False, help="Name of the ensemble in the tables of dtnn-fast evaluate, such as 'two encoders'."
        ),
    ] = "",
    members: Annotated[
        int | None,
        typer.Option(
            min=2,
            show_default=False,
            help="Take this many members in all: member k from the runs in turn, which are ensembles. Without it, all "
            "members of all runs.",
        ),
    ] = None,
    data: RunDataOption = None,
    clean: RunCleanOption = True,
) -> None:
    """Take the mean of models on different encoders, with error bars from their spread.

    Nothing is trained. Every member counts the same; runs that are ensembles bring all of their members, or with
    --members some. What is written is a run like those of dtnn-fast train: dtnn-fast screen --model OUTPUT/model uses
    it, dtnn-fast evaluate compares it.
    """
    from ..training.ensemble_runs import mix_runs, runs_by_split, take_in_turn
    from ..training.run_folder import MODEL_FOLDER, PREDICTIONS_FILE, load_predictions
    from .error_tables import print_error_bars, print_errors, summarise_splits
    from .training_inputs import load_training_data

    by_split = runs_by_split(runs)
    if members is not None:
        by_split = {split: take_in_turn(folders, members) for split, folders in by_split.items()}
    first = next(iter(by_split.values()))[0]
    targets = tuple(load_predictions(first / PREDICTIONS_FILE).expected)
    crystals, _ = load_training_data(data or [], targets, clean)
    systems = {crystal.id: str(crystal.info["crystal_system"]) for crystal in crystals}
    results = {}
    for split, folders in by_split.items():
        folder = output if split is None else output / f"split-{split}"
        result = mix_runs(folder, folders, systems, command_line(), label)
        results[split] = result
        where = "" if split is None else f", split {split}"
        print_errors(stdout(), result, title=f"Test errors of the ensemble{where}")
        print_error_bars(result["error_bars"])
        stderr().print(f"model: {folder / MODEL_FOLDER}")
    numbered = {split: result for split, result in results.items() if split is not None}
    if numbered:
        summarise_splits(stdout(), output, numbered, command_line())

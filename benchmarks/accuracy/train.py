# SPDX-License-Identifier: MIT
"""Train a baseline on one split: ``python -m benchmarks.accuracy.train MODEL --target T --split K --output FOLDER``."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import torch
import typer

from dtnn_fast.cli.console import print_error, stderr, stdout
from dtnn_fast.cli.error_tables import print_errors
from dtnn_fast.cli.training_inputs import load_training_data
from dtnn_fast.errors import DTNNError
from dtnn_fast.model.dtnn import TARGETS
from dtnn_fast.training.run_folder import RESULTS_FILE

from .models import ModelName
from .recipes import SHORT, Schedule, recipe
from .run import RunSettings, train_run
from .trainer import Epoch, Trainer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Target(StrEnum):
    """Tensors to learn: one, or electronic and ionic together with their sum, the total."""

    electronic = "electronic"
    ionic = "ionic"
    total = "total"
    joint = "joint"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tensors."""
        return TARGETS if self is Target.joint else (self.value,)


def _command_line() -> str:
    return shlex.join(["python", "-m", "benchmarks.accuracy.train", *sys.argv[1:]])


def _say_start(trainer: Trainer) -> None:
    done = len(trainer.history)
    count = sum(parameter.numel() for parameter in trainer.model.parameters())
    after = f", resuming after epoch {done}" if done else ""
    stderr().print(f"run: {trainer.folder}   {count:,} parameters{after}")


def _say_epoch(trainer: Trainer, epoch: Epoch) -> None:
    errors = "  ".join(f"{target} {error:.3f}" for target, error in epoch.validation.items())
    stderr().print(
        f"epoch {epoch.epoch}/{trainer.recipe.epochs}  training {epoch.train_loss:.3f}  validation "
        f"{epoch.score:.3f} ({errors})  best {trainer.best_score:.3f} in epoch {trainer.best_epoch}  "
        f"learning rate {epoch.learning_rate:.2g}  {epoch.seconds:.1f} s"
    )


@app.command()
def train(
    model: Annotated[ModelName, typer.Argument(help="The baseline.")],
    target: Annotated[Target, typer.Option(help="Tensor to learn; joint: all three with one model.")],
    split: Annotated[int, typer.Option(min=0, help="Number of the split; 0 to 4 are reported.")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder of the run; an unfinished run in it is continued."),
    ],
    data: Annotated[
        list[Path] | None,
        typer.Option(show_default="the labelled crystals of dtnn-fast", help="Files of labelled crystals."),
    ] = None,
    schedule: Annotated[
        Schedule, typer.Option(help=f"A half cosine over {SHORT.epochs} epochs, or its authors' schedule.")
    ] = Schedule.short,
    epochs: Annotated[
        int | None, typer.Option(min=1, show_default="that of the schedule", help="Maximum number of epochs.")
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="MatTen: compile the products at the bonds with the C++ compiler.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """Train a baseline of the paper's Table 2 with its authors' settings (docs/baselines.md)."""
    torch.set_num_threads(threads)
    settings = RunSettings(model, target.names, split, recipe(model, schedule, epochs))
    try:
        crystals, rejected = load_training_data(data or [], target.names, use_cleaning_rule=True)
        stderr().print(f"{len(crystals)} crystals to learn from, {len(rejected)} rejected")
        results = train_run(
            settings,
            crystals,
            output,
            _command_line(),
            compiled=compiled,
            on_start=_say_start,
            on_epoch=_say_epoch,
        )
    except (DTNNError, OSError) as error:
        print_error(str(error))
        raise typer.Exit(2) from error
    except KeyboardInterrupt:
        stderr().print(
            f"stopped; run the same command again to continue from the last checkpoint in {output}", style="yellow"
        )
        raise typer.Exit(130) from None
    print_errors(stdout(), results, title=f"Test errors of {model.label}, split {split}")
    stdout().print(f"results: {output / RESULTS_FILE}")


if __name__ == "__main__":
    app()

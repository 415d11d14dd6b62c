# SPDX-License-Identifier: MIT
"""What is seen of a search while it goes, and what it leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from ..errors import DTNNError
from ..training.hardware import hardware
from ..training.run_folder import versions
from ..training.trainer import Epoch, Trainer
from ..training.training_settings import TrainingSettings
from ..tuning.objective import Objective
from ..tuning.report import BEST_FILE, TRIALS_FILE, best_settings, write_best, write_trials
from ..tuning.search_space import NAMES, Value
from ..tuning.study import Study
from .console import command_line, stderr, stdout

_SHOWN = 5


class TuningProgress:
    """A progress bar on a terminal, and a line for each finished trial.

    Args:
        study: the search.
        trials: how many finished trials it shall have.
    """

    def __init__(self, study: Study, trials: int) -> None:
        self.study, self.trials, self.console = study, trials, stderr()
        self._bar = Progress(
            TextColumn("trial"),
            MofNCompleteColumn(),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._task = self._bar.add_task("", total=trials, completed=len(study.finished))

    def search(self, objective: Objective) -> bool:
        """Search until there are as many trials as wanted; false when Ctrl-C ended it."""
        try:
            with self._bar:
                self.study.search(objective, self.trials, on_trial=self.on_trial)
        except KeyboardInterrupt:
            return False
        return True

    def on_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        """Show how far the run of a trial is."""
        seed, last = trainer.settings.seed, trainer.settings.epochs
        text = f"split {seed}, epoch {epoch.epoch} of at most {last}, best {trainer.best_score:.3f}"
        self._bar.update(self._task, description=text)

    def on_trial(self, trial: Any) -> None:
        """Show what a finished trial gave."""
        self._bar.advance(self._task)
        best = self.study.best
        said = "given up at" if trial.state.name == "PRUNED" else "validation error"
        value = "no value" if trial.value is None else f"{trial.value:.4f}"
        record = "" if best is None else f"   best {best.value:.4f} (trial {best.number})"
        self.console.print(f"trial {trial.number}: {said} {value}{record}")


def report(study: Study, objective: Objective, folder: Path, train_command: Callable[[TrainingSettings], str]) -> None:
    """Write all trials and the best settings, and print the best trials; nothing before the first finished trial.

    Args:
        study: the search.
        objective: of its trials.
        folder: where the files go.
        train_command: the command that trains with some settings.

    Raises:
        DTNNError: there are trials, but none was trained to the end.
    """
    trials, best = study.finished, study.best
    if not trials:
        return
    write_trials(folder / TRIALS_FILE, trials, objective.fixed)
    if best is None:
        reason = trials[0].user_attrs.get("reason", "given up early")
        raise DTNNError(f"tune: none of {len(trials)} trials was trained to the end: {reason}")
    settings = best_settings(objective.base, best, objective.fixed)
    command = train_command(settings)
    surroundings = {
        "command": command_line(),
        "trials": len(trials),
        "seeds": list(objective.splits),
        "versions": versions(),
        "hardware": hardware(),
    }
    write_best(folder / BEST_FILE, best, settings, command, surroundings)
    _print_best(stdout(), study, objective.fixed)
    stdout().print("train with the best settings:")
    # Not through rich, which would break the line.
    print(command)
    stdout().print(f"results: {folder / BEST_FILE}, {folder / TRIALS_FILE}, {study.path}")


def _print_best(console: Console, study: Study, fixed: Mapping[str, Value]) -> None:
    """Print the best trials with their settings."""
    whole = sorted((t for t in study.finished if t.state.name == "COMPLETE"), key=lambda trial: trial.value)
    given_up = len(study.finished) - len(whole)
    table = Table(
        title=f"The best of {len(study.finished)} trials",
        caption=f"{given_up} were given up early" if given_up else None,
        box=None,
    )
    for name in ("trial", "validation error", *NAMES):
        table.add_column(name, justify="right")
    for trial in whole[:_SHOWN]:
        values = {**fixed, **trial.params}
        table.add_row(str(trial.number), f"{trial.value:.4f}", *(_short(values[name]) for name in NAMES))
    console.print(table)


def _short(value: Value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else f"{value:.3g}"

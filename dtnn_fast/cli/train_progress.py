# SPDX-License-Identifier: MIT
"""What is seen of a training run while it goes, and how Ctrl-C stops it."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..training.trainer import Epoch, Trainer
from .console import stderr

LINES_EVERY = 10


class Stopped(Exception):  # noqa: N818  not an error
    """Training was stopped after a whole epoch, and a checkpoint was written."""


class TrainingProgress:
    """A progress bar on a terminal, otherwise a line every few epochs; Ctrl-C ends training after the epoch.

    Args:
        folder: of the run, for messages.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.console = stderr()
        self._bar = Progress(
            TextColumn("epoch"),
            MofNCompleteColumn(),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("at most"),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._stop = False
        self._last: Trainer | None = None
        self._handler_before: Any = None

    def __enter__(self) -> TrainingProgress:
        # Python allows handlers in the main thread only; elsewhere Ctrl-C is not for us.
        try:
            self._handler_before = signal.signal(signal.SIGINT, self._on_interrupt)
        except ValueError:
            self._handler_before = None
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        if self._handler_before is not None:
            signal.signal(signal.SIGINT, self._handler_before)

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        # Before the first epoch there is nothing to keep, and the second Ctrl-C means at once.
        if self._stop or self._last is None:
            raise KeyboardInterrupt
        self._stop = True
        self.console.print("stopping after this epoch; press Ctrl-C again to stop at once")

    def on_start(self, trainer: Trainer) -> None:
        """Say what is trained, and whether a run is continued."""
        self._last = trainer
        done, parts = len(trainer.history), trainer.split
        self.console.print(f"run: {self.folder}   seed {trainer.settings.seed}")
        self.console.print(
            f"crystals: {len(parts.train)} training, {len(parts.validation)} validation, {len(parts.test)} test"
        )
        counts = trainer.model.num_parameters()
        model = trainer.settings.model
        several = f" for each of {len(model.targets)} targets" if len(model.targets) > 1 else ""
        each = " for all targets" if model.decoder.joint else several
        self.console.print(
            f"parameters: encoder {counts['encoder']:,}, decoder {counts['decoder']:,}"
            + each
            + (f", {model.members} times" if model.members > 1 else "")
        )
        if trainer.finished:
            self.console.print(f"already finished after epoch {done}")
        elif done:
            self.console.print(f"resuming after epoch {done}")
        self._task = self._bar.add_task("", total=trainer.settings.epochs, completed=done)

    def on_batch(self, done: int, total: int) -> None:
        """Move the bar within an epoch."""
        assert self._last is not None
        self._bar.update(self._task, completed=len(self._last.history) + done / total)

    def on_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        """Show the losses of an epoch.

        Raises:
            Stopped: Ctrl-C was pressed in it.
        """
        validation = " ".join(f"{target} {value:.3f}" for target, value in epoch.validation.items())
        losses = f"training loss {epoch.train_loss:.3f}  validation MAE: {validation}  best epoch {trainer.best_epoch}"
        self._bar.update(self._task, completed=epoch.epoch, description=losses)
        if self._bar.disable and (epoch.epoch % LINES_EVERY == 0 or epoch.epoch == 1 or trainer.finished):
            self.console.print(f"epoch {epoch.epoch}/{trainer.settings.epochs}  {losses}  {epoch.seconds:.1f} s")
        if self._stop and not trainer.finished:
            trainer.checkpoint()
            raise Stopped

    def how_to_resume(self, kept: bool) -> str:
        """The message after Ctrl-C; `kept` says whether the last epoch is in the checkpoint."""
        done = len(self._last.history) if self._last else 0
        every = self._last.checkpoint_every if self._last else 1
        saved = done if kept else done - done % every
        return (
            f"stopped. The state after epoch {saved} is in {self.folder}: "
            f"run the same command with --output {self.folder} to go on"
        )

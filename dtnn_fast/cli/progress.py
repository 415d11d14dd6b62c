# SPDX-License-Identifier: MIT
"""Progress bars of the long-running commands, and lines where the output is no terminal."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from .console import counted, stderr

if TYPE_CHECKING:
    from ..crystals.crystal import Rejected
    from ..distillation.distill_trainer import DistillTrainer, ProgressRecord
    from ..distillation.held_out_report import HeldOutReport
    from ..distillation.made_crystals import CrystalsToLabel
    from ..training.term_trainer import TermEpoch, TermTrainer
    from ..training.trainer import Epoch, Trainer
    from ..tuning.objective import Objective
    from ..tuning.study import Study

LINE_SECONDS = 30  # between lines of a screening
LINES_EVERY = 10  # epochs or records between lines where the output is not a terminal


def print_term_epoch(trainer: TermTrainer[Any], epoch: TermEpoch) -> None:
    """Print an epoch of `train-lattice` or `train-potential`."""
    terms = "  ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in epoch.terms.items())
    stderr().print(f"epoch {epoch.epoch}/{trainer.settings.epochs}  loss: {terms}  {epoch.seconds:.1f} s")


def _console(silent: bool) -> Console:
    """Make the console of a progress bar; a silent one for all processes but the first."""
    return Console(quiet=True) if silent else stderr()


def _text_column(text: str) -> TextColumn:
    """Make a column of a progress bar that shows brackets as they are."""
    return TextColumn(text, markup=False)


class Stopped(Exception):  # noqa: N818  not an error
    """Training was stopped after a whole epoch, and a checkpoint was written."""


class TrainingProgress:
    """A progress bar on a terminal, otherwise a line every few epochs; Ctrl-C ends training after the epoch.

    Args:
        folder: folder of the run, for messages.
        silent: whether another process of the same run speaks.
    """

    def __init__(self, folder: Path, silent: bool = False) -> None:
        self.folder = folder
        self.console = _console(silent)
        self._bar = Progress(
            _text_column("epoch"),
            MofNCompleteColumn(),
            BarColumn(),
            TimeElapsedColumn(),
            _text_column("at most"),
            TimeRemainingColumn(),
            _text_column("{task.description}"),
            console=self.console,
            disable=silent or not self.console.is_interactive,
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
        if not trainer.finished and trainer.workers.any_process(self._stop):
            trainer.checkpoint()
            raise Stopped

    def how_to_resume(self, kept: bool) -> str:
        """The message after Ctrl-C; `kept` says whether the last epoch is in the checkpoint."""
        done = len(self._last.history) if self._last else 0
        every = self._last.checkpoint_every if self._last else 1
        saved = done if kept else done - done % every
        return (
            f"stopped. The state after epoch {saved} is saved in {self.folder}: run the same command with --output "
            f"{self.folder} to continue"
        )


class DistillProgress:
    """Progress bars on a terminal, otherwise a line now and then.

    Args:
        folder: folder of the run, for messages.
        silent: whether another process of the same run speaks.
    """

    def __init__(self, folder: Path, silent: bool) -> None:
        self.folder = folder
        self.console = _console(silent)
        self._bar = Progress(
            _text_column("{task.description}"),
            MofNCompleteColumn(),
            BarColumn(),
            TimeElapsedColumn(),
            _text_column("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=silent or not self.console.is_interactive,
        )

    def __enter__(self) -> DistillProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def on_crystals(self, made: CrystalsToLabel, unreadable: Sequence[Rejected]) -> None:
        """Say how many crystals there are, and what was dropped."""
        reasons = {**made.dropped, **({"cannot be read": len(unreadable)} if unreadable else {})}
        dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        self.console.print(f"crystals: {len(made.crystals)}" + (f"; dropped: {dropped}" if dropped else ""))
        self._labelling = self._bar.add_task("labels", total=None)

    def on_shard(self, done: int, total: int) -> None:
        """Move the bar of the labels."""
        self._bar.update(self._labelling, completed=done, total=total)
        if self._bar.disable and (done % LINES_EVERY == 0 or done == total):
            self.console.print(f"labels: file {done} of {total}")

    def on_labels(self, folder: Path, rejected: Sequence[str]) -> None:
        """Say which crystals the teacher has no usable latents for."""
        if rejected:
            more = f" and {len(rejected) - 3} more" if len(rejected) > 3 else ""
            self.console.print(f"no usable latents for {', '.join(rejected[:3])}{more} ({folder})", style="yellow")

    def on_start(self, trainer: DistillTrainer) -> None:
        """Say what is trained, and whether a run is continued."""
        done = trainer.progress.step
        count = sum(p.numel() for p in trainer.student.encoder.parameters())
        self.console.print(f"run: {self.folder}   training crystals: {trainer.shards.num_crystals}")
        self.console.print(f"encoder parameters: {count:,}   steps: {trainer.num_steps}")
        if done:
            self.console.print("already finished" if trainer.finished else f"resuming after step {done}")
        self._training = self._bar.add_task("steps", total=trainer.num_steps, completed=done)

    def on_record(self, trainer: DistillTrainer, record: ProgressRecord) -> None:
        """Show the loss."""
        energy = record.energies.get("training_mev")
        note = "" if energy is None else f"  energies {energy:.0f} meV/atom"
        self._bar.update(
            self._training, completed=record.step, description=f"steps  unexplained {record.loss:.4f}{note}"
        )
        if self._bar.disable and (len(trainer.history) % LINES_EVERY == 0 or trainer.finished):
            where = f"step {record.step}/{trainer.num_steps}"
            self.console.print(f"{where}  unexplained variance {record.loss:.4f}{note}  {record.seconds:.0f} s")

    def on_report(self, held_out: Mapping[str, HeldOutReport]) -> None:
        """Show what the encoder explains so far."""
        print_explained(self.console, held_out)

    def how_to_resume(self) -> str:
        """The message after Ctrl-C."""
        return (
            f"stopped. What has been done is saved in {self.folder}: run the same command with --output {self.folder} "
            f"to continue; the encoder of the last report, if there was one, is in {self.folder / ENCODER_FOLDER}"
        )


class ScreeningProgress:
    """A progress bar on a terminal, with the rate, the number of rejected crystals and the time left; else lines.

    It has the methods of `screening.screening_run.ScreeningEvents`, which cannot be imported here without torch.
    """

    def __init__(self) -> None:
        self.console = stderr()
        self._bar = Progress(
            TaskProgressColumn(),
            BarColumn(),
            TimeElapsedColumn(),
            _text_column("left"),
            TimeRemainingColumn(),
            _text_column("{task.description}"),
            console=self.console,
            disable=not self.console.is_interactive,
        )
        self._count = self._rejected = 0
        self._whole = self._done = self._at_start = 0.0
        self._start = self._last_line = time.perf_counter()

    def __enter__(self) -> ScreeningProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def on_start(self, done: int, whole: int) -> None:
        """Begin where an earlier start ended."""
        self._whole, self._done, self._at_start = whole, done, done
        self._task = self._bar.add_task("", total=max(whole, 1), completed=done)
        if done:
            self.console.print(f"continuing: {100 * done / max(whole, 1):.0f} % of the input is already done")

    def on_crystals(self, number: int) -> None:
        """Count crystals that are done."""
        self._count += number
        self._show()

    def on_piece(self, size: float, num_rejected: int) -> None:
        """Move the bar, and where the output is no terminal print a line from time to time."""
        self._rejected += num_rejected
        self._done += size
        self._bar.advance(self._task, size)
        self._show()
        now = time.perf_counter()
        if self._bar.disable and now - self._last_line > LINE_SECONDS:
            self._last_line = now
            part, seconds = self._done / max(self._whole, 1), now - self._start
            new = self._done - self._at_start
            left = f", {seconds * (self._whole - self._done) / new / 60:.0f} min left" if new else ""
            self.console.print(f"{100 * part:.1f} %: {self._text()}{left}")

    def on_message(self, message: str) -> None:
        """Print a line above the bar."""
        self.console.print(message, style="yellow")

    def _text(self) -> str:
        speed = self._count / (time.perf_counter() - self._start)
        rejected = f", {self._rejected:,} rejected" if self._rejected else ""
        return f"{counted(self._count, 'crystal')}, {speed:,.0f}/s{rejected}"

    def _show(self) -> None:
        if not self._bar.disable:
            self._bar.update(self._task, description=self._text())


class CountProgress:
    """Bars on a terminal for what is counted, such as kilobytes of a file, tensors, crystals; else lines now and then.

    Args:
        line_seconds: seconds between lines.
    """

    def __init__(self, line_seconds: float = LINE_SECONDS) -> None:
        columns = (_text_column("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        console = stderr()
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_interactive)
        self._tasks: dict[str, TaskID] = {}
        self._line_seconds, self._last_line = line_seconds, time.perf_counter()

    def __enter__(self) -> CountProgress:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, what: str, done: int, whole: int) -> None:
        """Move the bar of what is counted; see `data.fetch.download.OnProgress`."""
        if what == "bytes":
            what, done, whole = "kilobytes", done // 1024, whole // 1024
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=whole or None)
        self._progress.update(self._tasks[what], completed=done)
        now = time.perf_counter()
        if self._progress.disable and now - self._last_line >= self._line_seconds:
            self._last_line = now
            stderr().print(f"{what}: {done:,}" + (f" of {whole:,}" if whole else ""))


class TuningProgress:
    """A progress bar on a terminal, and a line for each finished trial.

    Args:
        study: the search.
        trials: how many finished trials it shall have.
    """

    def __init__(self, study: Study, trials: int) -> None:
        self.study, self.trials, self.console = study, trials, stderr()
        self._bar = Progress(
            _text_column("trial"),
            MofNCompleteColumn(),
            BarColumn(),
            TimeElapsedColumn(),
            _text_column("left"),
            TimeRemainingColumn(),
            _text_column("{task.description}"),
            console=self.console,
            disable=not self.console.is_interactive,
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
        said = "stopped early at" if trial.state.name == "PRUNED" else "validation error"
        value = "no value" if trial.value is None else f"{trial.value:.4f}"
        record = "" if best is None else f"   best {best.value:.4f} (trial {best.number})"
        self.console.print(f"trial {trial.number}: {said} {value}{record}")


ENCODER_FOLDER = "encoder"


_ORIGINS = {"real": "real crystals", "made": "rattled, strained and substituted crystals"}


def print_explained(console: Console, held_out: Mapping[str, HeldOutReport]) -> None:
    """Print the explained variance as a table for real and one for made crystals, and what is known of energies."""
    from ..distillation.held_out_report import explained_variance_rows
    from ..distillation.labels import RANKS

    for origin, report in held_out.items():
        if not report.latents:
            continue
        table = Table(title=f"Explained variance on held-out chemical systems: {_ORIGINS[origin]}")
        for name in ("layer", "teacher's layer", *RANKS):
            table.add_column(name, justify="right")
        for row in explained_variance_rows(report.latents):
            table.add_row(*row)
        console.print(table)
        if report.energies is not None:
            console.print(report.energies.sentence())

# SPDX-License-Identifier: MIT
"""What is seen of a distillation while it goes, and its table in the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from .console import stderr

if TYPE_CHECKING:
    from ..crystals.rejected import Rejected
    from ..distillation.distill_trainer import DistillTrainer
    from ..distillation.distill_trainer import Progress as Record
    from ..distillation.explained import HeldOut
    from ..distillation.made_crystals import MadeCrystals

ENCODER_FOLDER = "encoder"
_KINDS = {"real": "real crystals", "made": "rattled, strained and substituted crystals"}
LINES_EVERY = 10


class DistillProgress:
    """Progress bars on a terminal, otherwise a line now and then.

    Args:
        folder: of the run, for messages.
        silent: whether another process of the same run speaks.
    """

    def __init__(self, folder: Path, silent: bool) -> None:
        self.folder = folder
        self.console = Console(quiet=True) if silent else stderr()
        self._bar = Progress(
            TextColumn("{task.description}"),
            MofNCompleteColumn(),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=silent or not self.console.is_terminal,
        )

    def __enter__(self) -> DistillProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def on_crystals(self, made: MadeCrystals, unreadable: Sequence[Rejected]) -> None:
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

    def on_record(self, trainer: DistillTrainer, record: Record) -> None:
        """Show the loss."""
        energy = record.energies.get("training_mev")
        note = "" if energy is None else f"  energies {energy:.0f} meV/atom"
        self._bar.update(
            self._training, completed=record.step, description=f"steps  unexplained {record.loss:.4f}{note}"
        )
        if self._bar.disable and (len(trainer.history) % LINES_EVERY == 0 or trainer.finished):
            where = f"step {record.step}/{trainer.num_steps}"
            self.console.print(f"{where}  unexplained variance {record.loss:.4f}{note}  {record.seconds:.0f} s")

    def on_report(self, held_out: Mapping[str, HeldOut]) -> None:
        """Show what the encoder explains so far."""
        print_explained(self.console, held_out)

    def how_to_resume(self) -> str:
        """The message after Ctrl-C."""
        return (
            f"stopped. What was done is in {self.folder}: run the same command with --output {self.folder} to go on; "
            f"the encoder of the last report, if there was one, is in {self.folder / ENCODER_FOLDER}"
        )


def print_explained(console: Console, held_out: Mapping[str, HeldOut]) -> None:
    """Print the explained variance as a table for real and one for made crystals, and what is known of energies."""
    from ..distillation.explained import rows  # noqa: PLC0415
    from ..distillation.labels import RANKS  # noqa: PLC0415  slow to import

    for kind, found in held_out.items():
        if not found.latents:
            continue
        table = Table(title=f"Explained variance on held-out chemical systems: {_KINDS[kind]}")
        for name in ("layer", "teacher's layer", *RANKS):
            table.add_column(name, justify="right")
        for row in rows(found.latents):
            table.add_row(*row)
        console.print(table)
        if found.energies is not None:
            console.print(found.energies.sentence())

# SPDX-License-Identifier: MIT
"""The training loop of a distillation: AdamW under a warmed-up cosine, a moving average of the weights, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BadFileError, DTNNError
from ..training.checkpoint import CHECKPOINT_FILE, load_checkpoint, save_checkpoint
from ..training.energy_readout import CompositionFit
from ..training.read_ahead import batches_on
from ..training.workers import Workers
from .batches import LabelledShards
from .distill_settings import DistillSettings
from .held_out_report import HeldOutReport, evaluate
from .student import LabelStatistics, Losses, Student


@dataclass(frozen=True)
class ProgressRecord:
    """The state of the training at some step; the records of a run are the rows of history.csv.

    Args:
        step: number of finished steps.
        epoch: the current pass over the crystals, from 0.
        batch: number of batches that this process has finished in the epoch.
        loss: mean unexplained variance on the training batches since the last record.
        seconds: training time so far, also from before interruptions.
        energies: errors where energies are learned. "training_mev" is the mean absolute error since the last record in
            meV per atom; records with a report have "real_mev", "real_explained", "made_mev" and "made_explained" too.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    loss: float = math.nan
    seconds: float = 0.0
    energies: dict[str, float] = field(default_factory=dict)


class DistillTrainer:
    """Trains a student on labels.

    Args:
        settings: settings of the training.
        shards: the labels.
        statistics: statistics of the labels.
        folder: folder of the checkpoint; training continues from an existing one.
        workers: the processes that train together.
        record_every: number of steps between records.
        fit: fit of the energies by constants of the elements; None where energies are not learned.
    """

    def __init__(
        self,
        settings: DistillSettings,
        shards: LabelledShards,
        statistics: Mapping[str, LabelStatistics],
        folder: Path,
        workers: Workers,
        record_every: int = 100,
        fit: CompositionFit | None = None,
    ) -> None:
        self.settings, self.shards, self.folder, self.workers = settings, shards, folder, workers
        self.statistics, self.record_every, self.fit = statistics, record_every, fit
        torch.manual_seed(settings.seed)
        self.student = self._new_student()
        self.optimizer = torch.optim.AdamW(
            self.student.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        self.num_steps = max(
            1, round(settings.epochs * shards.num_atoms / (settings.batch_atoms * workers.num_processes))
        )
        self.averaged_weights = {name: value.detach().clone() for name, value in self.student.state_dict().items()}
        self.history: list[ProgressRecord] = []
        self.progress = ProgressRecord()
        self._load_checkpoint()
        self._parallel = workers.parallel(self.student)

    def _new_student(self) -> Student:
        settings = self.settings
        student = Student(settings.encoder, settings.matches, self.statistics, settings.energy_weight, self.fit)
        return student.to(self.workers.device)

    def _load_checkpoint(self) -> None:
        checkpoint = load_checkpoint(self.folder, self.student, self.optimizer)
        if checkpoint is None:
            return
        progress, averaged_weights = checkpoint
        self.averaged_weights = {name: value.to(self.workers.device) for name, value in averaged_weights.items()}
        try:
            self.history = [ProgressRecord(**record) for record in progress["history"]]
            self.progress = ProgressRecord(**progress["progress"])
        except (KeyError, TypeError) as error:
            raise BadFileError(f"{self.folder / CHECKPOINT_FILE}: not a complete checkpoint: {error!r}") from error

    def write_checkpoint(self) -> None:
        """Write the state of the training; processes other than the first do nothing."""
        if self.workers.rank == 0:
            progress: dict[str, Any] = {
                "history": [asdict(record) for record in self.history],
                "progress": asdict(self.progress),
            }
            save_checkpoint(self.folder, self.student, self.averaged_weights, self.optimizer, progress)

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.progress.step >= self.num_steps

    def learning_rate(self, step: int) -> float:
        """Give the learning rate of a step, counted from 0."""
        warmup = min(1.0, (step + 1) / self.settings.warmup) if self.settings.warmup else 1.0
        return self.settings.learning_rate * warmup * 0.5 * (1.0 + math.cos(math.pi * step / self.num_steps))

    def train(self) -> Iterator[ProgressRecord]:
        """Train until all steps are done, and yield a record every `record_every` steps and after the last one."""
        totals: list[Tensor] = []
        losses: list[Tensor] = []
        energy_errors: list[Tensor] = []
        start, seconds_before = time.perf_counter(), self.progress.seconds
        while not self.finished:
            epoch, num_done = self.progress.epoch, self.progress.batch
            make_batches = partial(
                self.shards.training_batches, self.settings.seed, epoch, self.workers.share, skip=num_done
            )
            batches = batches_on(self.workers.device, make_batches)
            for batch in batches:
                step_losses = self._step(batch.graph, batch.labels)
                totals.append(step_losses.total.detach())
                losses.append(step_losses.unexplained)
                if step_losses.energy is not None:
                    energy_errors.append(step_losses.energy)
                num_done += 1
                step = self.progress.step + 1
                seconds = seconds_before + time.perf_counter() - start
                self.progress = ProgressRecord(step, epoch, num_done, self.progress.loss, seconds)
                if step % self.record_every == 0 or self.finished:
                    energies = {"training_mev": 1000.0 * _mean(energy_errors)} if energy_errors else {}
                    self._check_finite(totals)
                    self.progress = replace(self.progress, loss=_mean(losses), energies=energies)
                    self.history.append(self.progress)
                    totals, losses, energy_errors = [], [], []
                    yield self.progress
                if self.finished:
                    break
            else:
                self.progress = replace(self.progress, epoch=epoch + 1, batch=0, energies={})
            batches.close()

    def add_to_history(self, held_out: Mapping[str, HeldOutReport]) -> None:
        """Add the errors of held-out energies to the last record of the history."""
        energies = dict(self.history[-1].energies)
        for source, report in held_out.items():
            if report.energies is not None and report.energies.quality is not None:
                energies[f"{source}_mev"] = report.energies.quality.mae_mev
                energies[f"{source}_explained"] = report.energies.quality.explained
        self.history[-1] = replace(self.history[-1], energies=energies)

    def _check_finite(self, losses: Sequence[Tensor]) -> None:
        """Stop all processes if a loss since the last record is no number in any of them."""
        loss = _mean(losses)
        if self.workers.any_process(not math.isfinite(loss)):
            raise DTNNError(
                f"distill: the loss became {loss} by step {self.progress.step}; a lower learning rate than "
                f"{self.settings.learning_rate:g} may help"
            )

    def _step(self, graph: Any, labels: Mapping[str, Tensor]) -> Losses:
        """Take one step of the optimizer, and return the losses. Nothing in it waits for a GPU."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.progress.step)
        self._parallel.train()
        losses: Losses = self._parallel(graph, labels)
        self.optimizer.zero_grad(set_to_none=True)
        losses.total.backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        self._update_averaged_weights()
        return losses

    @torch.no_grad()
    def _update_averaged_weights(self) -> None:
        # The decay grows from 0.1, so that the random initial weights are soon forgotten.
        step = self.progress.step
        decay = min(self.settings.average, (1 + step) / (10 + step))
        for name, value in self.student.state_dict().items():
            self.averaged_weights[name].lerp_(value, 1.0 - decay)

    def averaged_student(self) -> Student:
        """Make a student with the moving average of the weights, in evaluation mode."""
        student = self._new_student()
        student.load_state_dict(self.averaged_weights)
        return student.eval()

    def evaluate(self) -> dict[str, HeldOutReport]:
        """Evaluate the averaged weights on the "real" and "made" crystals of held-out chemical systems."""
        student, device = self.averaged_student(), self.workers.device
        return {
            source: evaluate(student, self.shards.held_out_batches(made=source == "made"), device)
            for source in ("real", "made")
        }


def _mean(values: Sequence[Tensor]) -> float:
    """Average scalars on a device, which is the only wait for it."""
    return torch.stack(list(values)).double().mean().item()

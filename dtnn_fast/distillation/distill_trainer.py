# SPDX-License-Identifier: MIT
"""The training loop of a distillation: AdamW under a warmed-up cosine, a moving average of the weights, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import BadFileError, DTNNError
from ..training.checkpoint import CHECKPOINT_FILE, load_checkpoint, save_checkpoint
from .batches import LabelledShards, read_ahead
from .distill_settings import DistillSettings
from .energy_readout import CompositionFit
from .held_out_report import HeldOut, evaluate
from .student import Losses, Spread, Student
from .workers import Workers


@dataclass(frozen=True)
class Progress:
    """Where training stands.

    Args:
        step: steps done.
        epoch: the pass over the crystals that is under way, from 0.
        batch: batches of this process that are done in it.
        loss: mean unexplained variance on the training batches since the last record.
        seconds: of training, over all sittings.
        energies: where they are learned: "training_mev", the mean absolute error since the last record in meV per atom,
            and in records with a report "real_mev", "real_explained", "made_mev" and "made_explained".
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    loss: float = math.nan
    seconds: float = 0.0
    energies: dict[str, float] = field(default_factory=dict)


class DistillTrainer:
    """Trains one encoder on labels.

    Args:
        settings: of the training.
        shards: the labels.
        spreads: of the labels.
        folder: where checkpoints are; training goes on from one that is there.
        workers: the processes that work together.
        record_every: steps between records.
        fit: of the energies to the compositions, where the energies are learned too.
    """

    def __init__(
        self,
        settings: DistillSettings,
        shards: LabelledShards,
        spreads: Mapping[str, Spread],
        folder: Path,
        workers: Workers,
        record_every: int = 100,
        fit: CompositionFit | None = None,
    ) -> None:
        self.settings, self.shards, self.folder, self.workers = settings, shards, folder, workers
        self.spreads, self.record_every, self.fit = spreads, record_every, fit
        torch.manual_seed(settings.seed)
        self.student = self._new_student()
        self.optimizer = torch.optim.AdamW(
            self.student.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.num_steps = max(1, round(settings.epochs * shards.num_atoms / (settings.batch_atoms * workers.count)))
        self.average = {name: value.detach().clone() for name, value in self.student.state_dict().items()}
        self.history: list[Progress] = []
        self.progress = Progress()
        self._resume()
        self._parallel: nn.Module = self.student
        if workers.count > 1:
            # The parts of the last layer that no map reads get no gradient.
            self._parallel = DistributedDataParallel(self.student, broadcast_buffers=False, find_unused_parameters=True)

    def _new_student(self) -> Student:
        settings = self.settings
        student = Student(settings.encoder, settings.matches, self.spreads, settings.energy_weight, self.fit)
        return student.to(self.workers.device)

    def _resume(self) -> None:
        found = load_checkpoint(self.folder, self.student, self.optimizer)
        if found is None:
            return
        progress, average = found
        self.average = {name: value.to(self.workers.device) for name, value in average.items()}
        try:
            self.history = [Progress(**record) for record in progress["history"]]
            self.progress = Progress(**progress["progress"])
        except (KeyError, TypeError) as error:
            raise BadFileError(f"{self.folder / CHECKPOINT_FILE}: not a whole checkpoint: {error!r}") from error

    def checkpoint(self) -> None:
        """Write where training stands; only the first process does."""
        if self.workers.rank == 0:
            record: dict[str, Any] = {
                "history": [asdict(entry) for entry in self.history],
                "progress": asdict(self.progress),
            }
            save_checkpoint(self.folder, self.student, self.average, self.optimizer, record)

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.progress.step >= self.num_steps

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        rise = min(1.0, (step + 1) / self.settings.warmup) if self.settings.warmup else 1.0
        return self.settings.learning_rate * rise * 0.5 * (1.0 + math.cos(math.pi * step / self.num_steps))

    def records(self) -> Iterator[Progress]:
        """Train until finished; gives where training stands every few steps, and at the end."""
        losses: list[float] = []
        energies: list[float] = []
        start, before = time.perf_counter(), self.progress.seconds
        while not self.finished:
            at = self.progress
            place = self.settings.seed, at.epoch, self.workers.part, at.batch
            batches = read_ahead(partial(self.shards.training, *place))
            done = at.batch
            for batch in batches:
                there = batch.to(self.workers.device)
                found = self._step(there.graph, there.labels)
                losses.append(found.unexplained.item())
                if found.energy is not None:
                    energies.append(found.energy.item())
                done += 1
                step = self.progress.step + 1
                seconds = before + time.perf_counter() - start
                self.progress = Progress(step, at.epoch, done, self.progress.loss, seconds)
                if step % self.record_every == 0 or self.finished:
                    learned = {"training_mev": 1000.0 * sum(energies) / len(energies)} if energies else {}
                    self.progress = Progress(step, at.epoch, done, sum(losses) / len(losses), seconds, learned)
                    self.history.append(self.progress)
                    losses, energies = [], []
                    yield self.progress
                if self.finished:
                    break
            else:
                self.progress = Progress(self.progress.step, at.epoch + 1, 0, self.progress.loss, self.progress.seconds)
            batches.close()

    def note(self, held_out: Mapping[str, HeldOut]) -> None:
        """Put the errors of held-out energies into the last record of the history."""
        energies = dict(self.history[-1].energies)
        for kind, found in held_out.items():
            if found.energies is not None and found.energies.quality is not None:
                energies[f"{kind}_mev"] = found.energies.quality.mae_mev
                energies[f"{kind}_explained"] = found.energies.quality.explained
        self.history[-1] = replace(self.history[-1], energies=energies)

    def _step(self, graph: Any, labels: Mapping[str, Tensor]) -> Losses:
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.progress.step)
        self._parallel.train()
        losses: Losses = self._parallel(graph, labels)
        loss = losses.total
        if not torch.isfinite(loss):
            raise DTNNError(
                f"distill: the loss became {loss.item()} in step {self.progress.step + 1}; a lower learning rate than "
                f"{self.settings.learning_rate:g} may help"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        self._move_average()
        return losses

    @torch.no_grad()
    def _move_average(self) -> None:
        # Early averages would remember the random start: the decay grows from 0.1.
        step = self.progress.step
        decay = min(self.settings.average, (1 + step) / (10 + step))
        for name, value in self.student.state_dict().items():
            self.average[name].lerp_(value, 1.0 - decay)

    def averaged(self) -> Student:
        """The student with the moving average of the weights, in evaluation mode."""
        student = self._new_student()
        student.load_state_dict(self.average)
        return student.eval()

    def evaluate(self) -> dict[str, HeldOut]:
        """What the averaged weights explain of the "real" and "made" crystals of held-out systems."""
        student, device = self.averaged(), self.workers.device
        return {kind: evaluate(student, self.shards.held_out(made=kind == "made"), device) for kind in ("real", "made")}

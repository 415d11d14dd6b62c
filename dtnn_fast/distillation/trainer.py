# SPDX-License-Identifier: MIT
"""The training loop of a distillation: AdamW under a warmed-up cosine, a moving average of the weights, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..encoders.native import NativeEncoder
from ..errors import BadFileError, DTNNError
from ..training.checkpoint import CHECKPOINT_FILE, load_checkpoint, save_checkpoint
from .batches import LabelledShards, read_ahead
from .parallel import Workers
from .report import Explained, explained_variance
from .settings import DistillSettings
from .student import Spread, Student


@dataclass(frozen=True)
class Progress:
    """Where training stands.

    Args:
        step: steps done.
        epoch: the pass over the crystals that is under way, from 0.
        batch: batches of this process that are done in it.
        loss: mean unexplained variance on the training batches since the last record.
        seconds: of training, over all sittings.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    loss: float = math.nan
    seconds: float = 0.0


class DistillTrainer:
    """Trains one encoder on labels.

    Args:
        settings: of the training.
        shards: the labels.
        spreads: of the labels.
        folder: where checkpoints are; training goes on from one that is there.
        workers: the processes that work together.
        record_every: steps between records.
    """

    def __init__(
        self,
        settings: DistillSettings,
        shards: LabelledShards,
        spreads: Mapping[str, Spread],
        folder: Path,
        workers: Workers,
        record_every: int = 100,
    ) -> None:
        self.settings, self.shards, self.folder, self.workers = settings, shards, folder, workers
        self.spreads, self.record_every = spreads, record_every
        torch.manual_seed(settings.seed)
        self.student = Student(settings.encoder, settings.matches, spreads).to(workers.device)
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
        start, before = time.perf_counter(), self.progress.seconds
        while not self.finished:
            at = self.progress
            place = self.settings.seed, at.epoch, self.workers.part, at.batch
            batches = read_ahead(partial(self.shards.training, *place))
            done = at.batch
            for batch in batches:
                there = batch.to(self.workers.device)
                losses.append(self._step(there.graph, there.labels))
                done += 1
                step = self.progress.step + 1
                seconds = before + time.perf_counter() - start
                self.progress = Progress(step, at.epoch, done, self.progress.loss, seconds)
                if step % self.record_every == 0 or self.finished:
                    self.progress = Progress(step, at.epoch, done, sum(losses) / len(losses), seconds)
                    self.history.append(self.progress)
                    losses = []
                    yield self.progress
                if self.finished:
                    break
            else:
                self.progress = Progress(self.progress.step, at.epoch + 1, 0, self.progress.loss, self.progress.seconds)
            batches.close()

    def _step(self, graph: Any, labels: Mapping[str, Tensor]) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.progress.step)
        self._parallel.train()
        loss = self._parallel(graph, labels)
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
        return float(loss.item())

    @torch.no_grad()
    def _move_average(self) -> None:
        # Early averages would remember the random start: the decay grows from 0.1.
        step = self.progress.step
        decay = min(self.settings.average, (1 + step) / (10 + step))
        for name, value in self.student.state_dict().items():
            self.average[name].lerp_(value, 1.0 - decay)

    def averaged(self) -> Student:
        """The student with the moving average of the weights, in evaluation mode."""
        student = Student(self.settings.encoder, self.settings.matches, self.spreads).to(self.workers.device)
        student.load_state_dict(self.average)
        return student.eval()

    def encoder(self) -> NativeEncoder:
        """The encoder with the moving average of the weights, in evaluation mode on the CPU."""
        return self.averaged().encoder.cpu()

    def evaluate(self) -> dict[str, list[Explained]]:
        """The explained variance of the averaged weights on the "real" and "made" crystals of held-out systems."""
        student, device = self.averaged(), self.workers.device
        return {
            kind: explained_variance(student, self.shards.held_out(made=kind == "made"), device)
            for kind in ("real", "made")
        }

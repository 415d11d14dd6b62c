# SPDX-License-Identifier: MIT
"""Training on a weighted sum of terms: AdamW under a cosine schedule, and the running mean of the weights.

There is no early stopping: the schedule ends at a learning rate of zero, and the running mean of the weights there is
the result.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Generic

import numpy as np
import torch
from torch import Tensor

from ..errors import BadFileError, DTNNError
from .checkpoint import CHECKPOINT_FILE, load_checkpoint, save_checkpoint
from .trainer import Model, RunningMean

# Steps until the learning rate is at its full height.
_WARM_UP = 100


@dataclass(frozen=True)
class TermSettings:
    """Settings of a training.

    Args:
        seed: seed of the initial weights, dropout, order of crystals, and of the split.
        epochs: passes over the training crystals.
        batch_size: crystals per step.
        learning_rate: highest learning rate of AdamW; decays to zero on a half cosine.
        weight_decay: weight decay of AdamW.
        clip_norm: maximum norm of a gradient.
        average: weight of the old mean in the running mean of the weights.

    Raises:
        ValueError: a setting is out of range.
    """

    seed: int = 0
    epochs: int = 24
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    clip_norm: float = 2.0
    average: float = 0.998

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size) < 1 or self.learning_rate <= 0 or not 0 <= self.average < 1:
            raise ValueError(
                f"{type(self).__name__}: expected `epochs` and `batch_size` of 1 or more, a positive `learning_rate` "
                f"and `average` from 0 to below 1, got {self}"
            )


@dataclass(frozen=True)
class TermEpoch:
    """Record of an epoch.

    Args:
        epoch: number, counted from 1.
        terms: means of the terms of the loss over the steps, by name.
        seconds: wall-clock time.
    """

    epoch: int
    terms: dict[str, float]
    seconds: float


class TermTrainer(ABC, Generic[Model]):
    """Training of one model.

    Args:
        model: the model with its initial weights; it is trained in place, on its device.
        num_examples: number of examples of an epoch.
        weights: weights of the terms by name.
        settings: settings.
        folder: folder of the checkpoint, from which training resumes; None writes none.

    Raises:
        BadFileError: the checkpoint is damaged, or belongs to a model with other settings.
    """

    # The command, for messages.
    command: ClassVar[str]

    def __init__(
        self,
        model: Model,
        num_examples: int,
        weights: dict[str, float],
        settings: TermSettings,
        folder: Path | None = None,
    ) -> None:
        self.model, self.num_examples, self.weights = model, num_examples, weights
        self.settings, self.folder = settings, folder
        self.optimizer = torch.optim.AdamW(
            list(model.parameters()), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        self.mean = RunningMean(model, settings.average)
        self.history: list[TermEpoch] = []
        self._resume()

    @abstractmethod
    def terms(self, examples: Sequence[int], epoch: int) -> dict[str, Tensor]:
        """Compute the terms of the loss of some examples, without those that none of them has.

        Args:
            examples: their numbers.
            epoch: number of the epoch, for random numbers that a resumed run draws again.
        """

    def _resume(self) -> None:
        if self.folder is None:
            return
        checkpoint = load_checkpoint(
            self.folder, self.model, self.optimizer, self.mean.model if self.settings.average else None
        )
        if checkpoint is None:
            return
        progress, _ = checkpoint
        try:
            self.mean.steps = progress["mean_steps"]
            self.history = [TermEpoch(**epoch) for epoch in progress["history"]]
        except (KeyError, TypeError) as error:
            raise BadFileError(f"{self.folder / CHECKPOINT_FILE}: not a complete checkpoint: {error!r}") from error

    def checkpoint(self) -> None:
        """Write the state after the last whole epoch to the folder, if there is one."""
        if self.folder is None:
            return
        progress = {"history": [asdict(epoch) for epoch in self.history], "mean_steps": self.mean.steps}
        mean = self.mean.model if self.settings.average else None
        # The best weights are the last ones; the file has a place for them.
        save_checkpoint(self.folder, self.model, dict(self.model.state_dict()), self.optimizer, progress, mean)

    def epochs(self, on_batch: Callable[[int, int], None] = lambda done, total: None) -> Iterator[TermEpoch]:
        """Train until the last epoch; each step of the iteration is one epoch.

        Args:
            on_batch: called after each batch with the number of batches done and in all.

        Raises:
            DTNNError: the loss became NaN or infinite.
        """
        while len(self.history) < self.settings.epochs:
            epoch, start = len(self.history) + 1, time.perf_counter()
            terms = self._train_epoch(epoch, on_batch)
            self.history.append(TermEpoch(epoch, terms, time.perf_counter() - start))
            self.checkpoint()
            yield self.history[-1]

    def _train_epoch(self, epoch: int, on_batch: Callable[[int, int], None]) -> dict[str, float]:
        settings = self.settings
        # Each epoch has its own seed, so that a resumed run takes the same order.
        order = np.random.RandomState((settings.seed, epoch)).permutation(self.num_examples)
        num_steps = -(-len(order) // settings.batch_size)
        sums, counts = dict.fromkeys(self.weights, 0.0), dict.fromkeys(self.weights, 0)
        self.model.train()
        for step in range(num_steps):
            done = (epoch - 1) * num_steps + step
            height = min(1.0, (done + 1) / _WARM_UP)
            height *= 0.5 * (1.0 + math.cos(math.pi * done / (num_steps * settings.epochs)))
            for group in self.optimizer.param_groups:
                group["lr"] = height * settings.learning_rate
            examples = order[step * settings.batch_size : (step + 1) * settings.batch_size].tolist()
            terms = self.terms(examples, epoch)
            loss = torch.stack([self.weights[name] * value for name, value in terms.items()]).sum()
            if not math.isfinite(loss.item()):
                raise DTNNError(
                    f"{self.command}: the loss became {loss.item()} in epoch {epoch}; a lower learning rate than "
                    f"{settings.learning_rate:g} may help"
                )
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip_norm)
            self.optimizer.step()
            self.mean.update()
            for name, value in terms.items():
                sums[name] += value.item()
                counts[name] += 1
            on_batch(step + 1, num_steps)
        return {name: total / counts[name] for name, total in sums.items() if counts[name]}

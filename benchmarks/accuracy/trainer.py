# SPDX-License-Identifier: MIT
"""The training loop of the baselines: the loss of dtnn_fast, the epoch that validation chooses, exact resuming."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau

from dtnn_fast.datasets.splits import Split
from dtnn_fast.errors import BadFileError, DTNNError
from dtnn_fast.training.checkpoint import load_checkpoint, save_checkpoint
from dtnn_fast.training.metrics import isotropic_scale, mae_ten

from .graphs import LabelledGraphs
from .models import Ranged
from .recipes import Cosine, Recipe

EVALUATION_BATCH = 64
# An epoch takes from seconds to a minute: a run that is stopped loses little, and files are not written all the time.
CHECKPOINT_SECONDS = 120.0


@dataclass(frozen=True)
class Epoch:
    """Record of one epoch.

    Args:
        epoch: counted from 1.
        learning_rate: in this epoch.
        train_loss: mean loss of the training crystals while they were trained on: MAE_ten for one target, for several
            the sum of each target's MAE_ten over its spread in the training set.
        validation: MAE_ten on the validation crystals after it, by target.
        score: loss on the validation crystals, which chooses the epoch.
        seconds: wall-clock time.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    validation: dict[str, float]
    score: float
    seconds: float


def _optimizer(recipe: Recipe, model: Ranged) -> torch.optim.Optimizer:
    optimizers: dict[str, type[torch.optim.Adam]] = {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}
    return optimizers[recipe.optimizer](model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)


def _scheduler(recipe: Recipe, optimizer: torch.optim.Optimizer) -> CosineAnnealingLR | ReduceLROnPlateau:
    schedule = recipe.schedule
    if isinstance(schedule, Cosine):
        return CosineAnnealingLR(optimizer, schedule.epochs, eta_min=schedule.floor * recipe.learning_rate)
    return ReduceLROnPlateau(
        optimizer,
        factor=schedule.factor,
        patience=schedule.patience,
        cooldown=schedule.cooldown,
        threshold=schedule.threshold,
    )


class Trainer:
    """Trains one baseline on one split.

    Args:
        recipe: its settings.
        model: model with new weights.
        data: labelled crystals.
        split: indices into `data`.
        seed: seed of the order of the crystals.
        folder: folder of the checkpoints; training resumes from an existing one.
    """

    def __init__(
        self, recipe: Recipe, model: Ranged, data: LabelledGraphs, split: Split, seed: int, folder: Path
    ) -> None:
        self.recipe, self.model, self.data, self.split, self.seed, self.folder = (
            recipe,
            model,
            data,
            split,
            seed,
            folder,
        )
        self.weights = self._weights_of_targets()
        self.optimizer = _optimizer(recipe, model)
        self.scheduler = _scheduler(recipe, self.optimizer)
        self.history: list[Epoch] = []
        self.best_score, self.best_epoch, self.best_state = math.inf, 0, self._state()
        self._saved_at = time.monotonic()
        self._resume()

    def _state(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def _weights_of_targets(self) -> dict[str, float]:
        """Return the weights of the losses as in DTNN's trainer: inverse spreads of the targets in the training set."""
        tensors = self.data.tensors
        if len(tensors) == 1:
            return dict.fromkeys(tensors, 1.0)
        return {
            target: 1.0 / isotropic_scale(target_tensors[self.split.train])[1]
            for target, target_tensors in tensors.items()
        }

    def _loss(self, predicted: dict[str, Tensor], expected: dict[str, Tensor]) -> Tensor:
        losses = [weight * mae_ten(predicted[target], expected[target]) for target, weight in self.weights.items()]
        return torch.stack(losses).sum()

    def _resume(self) -> None:
        found = load_checkpoint(self.folder, self.model, self.optimizer)
        if found is None:
            return
        progress, self.best_state = found
        try:
            self.history = [Epoch(**epoch) for epoch in progress["history"]]
            self.best_score, self.best_epoch = progress["best_score"], progress["best_epoch"]
            self.scheduler.load_state_dict(progress["scheduler"])
        except (KeyError, TypeError) as error:
            raise BadFileError(f"{self.folder}: not a complete checkpoint: {error!r}") from error
        for group, rate in zip(self.optimizer.param_groups, self.scheduler.get_last_lr(), strict=True):
            group["lr"] = rate

    def checkpoint(self) -> None:
        """Write the state of the training after the last whole epoch."""
        progress: dict[str, Any] = {
            "history": [asdict(epoch) for epoch in self.history],
            "best_score": self.best_score,
            "best_epoch": self.best_epoch,
            "scheduler": self.scheduler.state_dict(),
        }
        save_checkpoint(self.folder, self.model, self.best_state, self.optimizer, progress)
        self._saved_at = time.monotonic()

    @property
    def finished(self) -> bool:
        """Whether the last epoch was reached, or early stopping set in."""
        done = len(self.history)
        return done >= self.recipe.epochs or done - self.best_epoch >= self.recipe.patience

    def _train_epoch(self, epoch: int) -> float:
        # Its own numbers for each epoch, so that a resumed run takes the same order.
        order = np.random.RandomState((self.seed, epoch)).permutation(self.split.train)
        total = 0.0
        self.model.train()
        for start in range(0, len(order), self.recipe.batch_size):
            indices = order[start : start + self.recipe.batch_size]
            graph, expected = self.data.batch(indices)
            loss = self._loss(self.model(graph), expected)
            if not torch.isfinite(loss):
                raise DTNNError(f"train: the loss became {loss.item()} in epoch {epoch}")
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            total += loss.item() * len(indices)
        return total / len(order)

    def epochs(self) -> Iterator[Epoch]:
        """Train until finished, one epoch for each step of the iteration."""
        while not self.finished:
            epoch, start = len(self.history) + 1, time.perf_counter()
            rate = self.optimizer.param_groups[0]["lr"]
            train_loss = self._train_epoch(epoch)
            predicted = self.predict(self.split.validation)
            expected = {target: tensors[self.split.validation] for target, tensors in self.data.tensors.items()}
            validation = {target: mae_ten(predicted[target], tensors).item() for target, tensors in expected.items()}
            score = self._loss(predicted, expected).item()
            if isinstance(self.scheduler, ReduceLROnPlateau):
                self.scheduler.step(score)
            else:
                self.scheduler.step()
            record = Epoch(epoch, rate, train_loss, validation, score, time.perf_counter() - start)
            self.history.append(record)
            if score < self.best_score:
                self.best_score, self.best_epoch, self.best_state = score, epoch, self._state()
            if self.finished or time.monotonic() - self._saved_at >= CHECKPOINT_SECONDS:
                self.checkpoint()
            yield record

    def predict(self, indices: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """The current model's tensors for crystals of the data set. [B, 3, 3] by target."""
        self.model.eval()
        with torch.no_grad():
            parts = [
                self.model(self.data.batch(indices[start : start + EVALUATION_BATCH])[0])
                for start in range(0, len(indices), EVALUATION_BATCH)
            ]
        return {target: torch.cat([part[target] for part in parts]) for target in self.data.targets}

    def load_best(self) -> None:
        """Put the weights with the best validation score into the model."""
        self.model.load_state_dict(self.best_state)

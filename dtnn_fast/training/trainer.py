# SPDX-License-Identifier: MIT
"""The training loop: AdamW under a cosine schedule, early stopping on the validation error."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Generic, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..datasets.splits import Split
from ..encoders.build import Encoder
from ..encoders.native import NativeEncoder
from ..errors import BadFileError, DTNNError
from ..model.decoder import Decoder, Readout
from ..model.dtnn import DTNN
from .checkpoint import CHECKPOINT_FILE, load_checkpoint, save_checkpoint
from .labelled_data import LabelledGraphs, LabelledLatents
from .metrics import isotropic_scale, mae_ten
from .training_settings import TrainingSettings

Model = TypeVar("Model", bound=nn.Module)


class RunningMean(Generic[Model]):
    """The exponential moving average of the weights of a model (B. T. Polyak and A. B. Juditsky, 1992).

    mean <- w mean + (1 - w) weights,  w = min(share, (1 + step) / (10 + step))

    Args:
        model: whose weights are averaged; with a share of 0 it is its own mean.
        share: how much the old mean counts, from 0 to below 1. At first less, so that the random start is forgotten.
    """

    def __init__(self, model: Model, share: float) -> None:
        self.source, self.share, self.steps = model, share, 0
        self.model = copy.deepcopy(model) if share else model

    def update(self) -> None:
        """Take the weights of the model after a step."""
        if not self.share:
            return
        self.steps += 1
        weight = 1.0 - min(self.share, (1 + self.steps) / (10 + self.steps))
        pairs = [
            (mean, new)
            for mean, new in zip(self.model.parameters(), self.source.parameters(), strict=True)
            if new.requires_grad
        ]
        with torch.no_grad():
            torch._foreach_lerp_([mean for mean, _ in pairs], [new for _, new in pairs], weight)


EVALUATION_BATCH = 128
# Seeds of members of an ensemble lie as far apart as no split's seed is large.
_MEMBER_STRIDE = 2**32


@dataclass(frozen=True)
class Epoch:
    """What is recorded of an epoch.

    Args:
        epoch: counted from 1.
        learning_rate: in this epoch.
        train_loss: mean loss over the training crystals, with dropout; MAE_ten for one target, for several the sum of
            each target's MAE_ten over its spread in the training set.
        validation: MAE_ten on the validation crystals by target.
        score: what early stopping looks at: the loss on the validation crystals.
        seconds: wall-clock time.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    validation: dict[str, float]
    score: float
    seconds: float


class Trainer:
    """Trains one model on one split.

    Args:
        settings: of the run.
        data: labelled crystals.
        split: indices into `data`.
        folder: where checkpoints are; training goes on from one that is there. None keeps nothing.
        checkpoint_every: epochs between checkpoints.
        encoder: to start from; None for one with random weights.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        data: LabelledGraphs | LabelledLatents,
        split: Split,
        folder: Path | None = None,
        checkpoint_every: int = 5,
        encoder: Encoder | None = None,
    ) -> None:
        if min(len(split.train), len(split.validation)) == 0:
            raise DTNNError(f"train: expected at least 10 crystals, to have some for validation, got {len(data)}")
        self.settings, self.data, self.split, self.folder = settings, data, split, folder
        self.checkpoint_every = checkpoint_every
        torch.manual_seed(settings.seed + _MEMBER_STRIDE * settings.member)
        # A copy, because the next run starts from the same weights.
        start = copy.deepcopy(encoder) if isinstance(encoder, NativeEncoder) else encoder
        self.model = DTNN(settings.model, start)
        self.model.encoder.requires_grad_(not settings.frozen)
        self.weights = self._scale_to_training_set()
        self.optimizer = torch.optim.AdamW(
            [parameter for parameter in self.model.parameters() if parameter.requires_grad],
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
        )
        self.mean = RunningMean(self.model, settings.average)
        self.history: list[Epoch] = []
        self.best_score, self.best_epoch = math.inf, 0
        self.best_state = self._state()
        self._resume()

    def _state(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.mean.model.state_dict().items()}

    def _scale_to_training_set(self) -> dict[str, float]:
        """Set offset and scale of each readout, and the sizes of frozen latents; the targets' weights in the loss."""
        ranges = {target: isotropic_scale(tensors[self.split.train]) for target, tensors in self.data.tensors.items()}
        decoders = [cast(Decoder, decoder) for decoder in self.model.decoders.values()]
        for decoder in decoders:
            for target, readout in decoder.readouts.items():
                cast(Readout, readout).set_range(*ranges[target])
        if isinstance(self.data, LabelledLatents):
            encoded, _ = self.data.batch(self.split.train.tolist())
            for decoder in decoders:
                decoder.atom_input.set_sizes(encoded.latents)
        return {target: 1.0 if len(ranges) == 1 else 1.0 / scale for target, (_, scale) in ranges.items()}

    def _resume(self) -> None:
        mean = self.mean.model if self.settings.average else None
        found = load_checkpoint(self.folder, self.model, self.optimizer, mean) if self.folder else None
        if self.folder is None or found is None:
            return
        progress, self.best_state = found
        try:
            self.mean.steps = progress["mean_steps"]
            self.history = [Epoch(**epoch) for epoch in progress["history"]]
            self.best_score, self.best_epoch = progress["best_score"], progress["best_epoch"]
        except (KeyError, TypeError) as error:
            raise BadFileError(f"{self.folder / CHECKPOINT_FILE}: not a whole checkpoint: {error!r}") from error

    def checkpoint(self) -> None:
        """Write where training stands after the last whole epoch; nothing without a folder."""
        if self.folder is None:
            return
        progress = {
            "history": [asdict(epoch) for epoch in self.history],
            "best_score": self.best_score,
            "best_epoch": self.best_epoch,
            "mean_steps": self.mean.steps,
        }
        mean = self.mean.model if self.settings.average else None
        save_checkpoint(self.folder, self.model, self.best_state, self.optimizer, progress, mean)

    @property
    def finished(self) -> bool:
        """Whether the last epoch was reached, or early stopping set in."""
        done = len(self.history)
        return done >= self.settings.epochs or done - self.best_epoch >= self.settings.patience

    def _loss(self, predicted: dict[str, Tensor], expected: dict[str, Tensor]) -> Tensor:
        losses = [self.weights[target] * mae_ten(predicted[target], expected[target]) for target in expected]
        return torch.stack(losses).sum()

    def _train_epoch(self, epoch: int, on_batch: Callable[[int, int], None]) -> float:
        settings = self.settings
        # Its own numbers for each epoch, so that a resumed run takes the same order.
        numbers = (settings.seed, epoch, settings.member) if settings.member else (settings.seed, epoch)
        order = np.random.RandomState(numbers).permutation(self.split.train)
        starts = range(0, len(order), settings.batch_size)
        total = 0.0
        self.model.train()
        for step, start in enumerate(starts):
            rate = settings.learning_rate * _cosine((epoch - 1 + step / len(starts)) / settings.epochs)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            indices = order[start : start + settings.batch_size].tolist()
            graph, expected = self.data.batch(indices)
            # Each member's own error, not that of their mean, which lets them differ.
            loss = self._loss(self.model.member_tensors(graph), expected)
            if not torch.isfinite(loss):
                raise DTNNError(
                    f"train: the loss became {loss.item()} in epoch {epoch}; a lower learning rate than "
                    f"{settings.learning_rate:g} may help"
                )
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip_norm)
            self.optimizer.step()
            self.mean.update()
            total += loss.item() * len(indices)
            on_batch(step + 1, len(starts))
        return total / len(order)

    def epochs(self, on_batch: Callable[[int, int], None] = lambda done, total: None) -> Iterator[Epoch]:
        """Train until finished, one epoch for each step of the iteration.

        Args:
            on_batch: called after each batch with the batches done and their number, for a progress bar.
        """
        while not self.finished:
            epoch, start = len(self.history) + 1, time.perf_counter()
            train_loss = self._train_epoch(epoch, on_batch)
            predicted = self.predict(self.split.validation)
            expected = {target: self.data.tensors[target][self.split.validation] for target in predicted}
            validation = {target: mae_ten(predicted[target], expected[target]).item() for target in predicted}
            score = self._loss(predicted, expected).item()
            rate = self.optimizer.param_groups[0]["lr"]
            record = Epoch(epoch, rate, train_loss, validation, score, time.perf_counter() - start)
            self.history.append(record)
            if score < self.best_score:
                self.best_score, self.best_epoch, self.best_state = score, epoch, self._state()
            if self.finished or epoch % self.checkpoint_every == 0:
                self.checkpoint()
            yield record

    def predict(self, indices: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """The tensors by the weights that are judged, for crystals of the data set. [B, 3, 3] by target."""
        return {target: tensors.mean(0) for target, tensors in self.predict_members(indices).items()}

    def predict_members(self, indices: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """See `predict`, of each member of the model. [members, B, 3, 3] by target."""
        model = self.mean.model.eval()
        parts: dict[str, list[Tensor]] = {target: [] for target in self.data.targets}
        with torch.no_grad():
            for start in range(0, len(indices), EVALUATION_BATCH):
                graph, _ = self.data.batch(list(indices[start : start + EVALUATION_BATCH]))
                for target, tensors in model.member_tensors(graph).items():
                    parts[target].append(tensors)
        return {target: torch.cat(tensors, 1) for target, tensors in parts.items()}

    def load_best(self) -> DTNN:
        """Put the weights with the best validation error into the model, and return it."""
        self.mean.model.load_state_dict(self.best_state)
        return self.mean.model.eval()


def _cosine(fraction: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * min(fraction, 1.0)))

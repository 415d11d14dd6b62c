# SPDX-License-Identifier: MIT
"""The training loop: AdamW under a cosine schedule, a running mean of the weights, early stopping on validation."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Generic, TypeVar

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
from .labelled_data import LabelledData, LabelledLatents
from .metrics import isotropic_scale, mae_ten
from .training_settings import TrainingSettings

EVALUATION_BATCH = 128  # crystals that are predicted together
# Distance between the random seeds of two ensemble members; larger than any seed of a split.
_MEMBER_STRIDE = 2**32

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class Epoch:
    """Record of one epoch.

    Args:
        epoch: number, counted from 1.
        learning_rate: learning rate of the last step.
        train_loss: mean loss over the training crystals, with dropout. It is MAE_ten for one target; for several it is
            the sum of each target's MAE_ten divided by its spread in the training set.
        validation: MAE_ten on the validation crystals by target.
        score: the loss on the validation crystals, which early stopping compares.
        seconds: wall-clock time.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    validation: dict[str, float]
    score: float
    seconds: float


class RunningMean(Generic[Model]):
    """Exponential moving average of the weights of a model (B. T. Polyak and A. B. Juditsky, 1992).

    mean <- w mean + (1 - w) weights,  w = min(share, (1 + step) / (10 + step))

    Args:
        model: whose weights are averaged.
        share: weight of the old mean, from 0 to below 1; smaller in the first steps, so that the random start is
            forgotten. With 0 the model is its own mean.
    """

    def __init__(self, model: Model, share: float) -> None:
        self.source, self.share, self.steps = model, share, 0
        self.model = copy.deepcopy(model) if share else model

    def update(self) -> None:
        """Take in the weights of the model after a step."""
        if not self.share:
            return
        self.steps += 1
        weight = 1.0 - min(self.share, (1 + self.steps) / (10 + self.steps))
        trained = [
            (mean, new)
            for mean, new in zip(self.model.parameters(), self.source.parameters(), strict=True)
            if new.requires_grad
        ]
        with torch.no_grad():
            torch._foreach_lerp_([mean for mean, _ in trained], [new for _, new in trained], weight)


class Trainer:
    """Training of one model on one split.

    Args:
        settings: settings of the run.
        data: labelled crystals.
        split: indices into `data`.
        folder: folder of the checkpoint, from which training resumes; None writes no checkpoints.
        checkpoint_every: number of epochs between checkpoints.
        encoder: encoder with the initial weights; None for random weights.

    Raises:
        DTNNError: there are fewer than 10 crystals.
        BadFileError: the checkpoint is damaged, or belongs to a model with other settings.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        data: LabelledData,
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
        own_encoder = copy.deepcopy(encoder) if isinstance(encoder, NativeEncoder) else encoder
        self.model = DTNN(settings.model, own_encoder)
        self.model.encoder.requires_grad_(not settings.frozen)
        self.target_weights = self._scale_to_training_set()
        self.optimizer = torch.optim.AdamW(
            [parameter for parameter in self.model.parameters() if parameter.requires_grad],
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
        )
        self.mean = RunningMean(self.model, settings.average)
        self.history: list[Epoch] = []
        self.best_score, self.best_epoch = math.inf, 0
        self.best_state = self._copy_weights()
        self._resume()

    def _copy_weights(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.mean.model.state_dict().items()}

    def _scale_to_training_set(self) -> dict[str, float]:
        """Fit each readout's offset and scale, and the sizes of frozen latents; return each target's loss weight."""
        ranges = {target: isotropic_scale(tensors[self.split.train]) for target, tensors in self.data.tensors.items()}
        encoded = None
        if isinstance(self.data, LabelledLatents):
            encoded, _ = self.data.batch(self.split.train.tolist())
        for decoder in self.model.decoders.values():
            assert isinstance(decoder, Decoder)
            for target, readout in decoder.readouts.items():
                assert isinstance(readout, Readout)
                readout.set_range(*ranges[target])
            if encoded is not None:
                weight = None if encoded.orbits is None else encoded.orbits.atom_weight
                decoder.atom_input.set_sizes(encoded.latents, weight)
        return {target: 1.0 if len(ranges) == 1 else 1.0 / scale for target, (_, scale) in ranges.items()}

    def _resume(self) -> None:
        mean = self.mean.model if self.settings.average else None
        checkpoint = load_checkpoint(self.folder, self.model, self.optimizer, mean) if self.folder else None
        if self.folder is None or checkpoint is None:
            return
        progress, self.best_state = checkpoint
        try:
            self.mean.steps = progress["mean_steps"]
            self.history = [Epoch(**epoch) for epoch in progress["history"]]
            self.best_score, self.best_epoch = progress["best_score"], progress["best_epoch"]
        except (KeyError, TypeError) as error:
            raise BadFileError(f"{self.folder / CHECKPOINT_FILE}: not a whole checkpoint: {error!r}") from error

    def checkpoint(self) -> None:
        """Write the state after the last whole epoch to the folder, if there is one."""
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
        """Whether the last epoch was reached, or early stopping ended the training."""
        num_epochs = len(self.history)
        return num_epochs >= self.settings.epochs or num_epochs - self.best_epoch >= self.settings.patience

    def _loss(self, predicted: dict[str, Tensor], expected: dict[str, Tensor]) -> Tensor:
        losses = [self.target_weights[target] * mae_ten(predicted[target], expected[target]) for target in expected]
        return torch.stack(losses).sum()

    def _train_epoch(self, epoch: int, on_batch: Callable[[int, int], None]) -> float:
        settings = self.settings
        # Each epoch has its own seed, so that a resumed run takes the same order.
        seed = (settings.seed, epoch, settings.member) if settings.member else (settings.seed, epoch)
        order = np.random.RandomState(seed).permutation(self.split.train)
        starts = range(0, len(order), settings.batch_size)
        total = 0.0
        self.model.train()
        for step, start in enumerate(starts):
            rate = settings.learning_rate * _cosine((epoch - 1 + step / len(starts)) / settings.epochs)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            indices = order[start : start + settings.batch_size].tolist()
            graph, expected = self.data.batch(indices)
            # The mean of the members' errors, not the error of their mean: so the members stay different.
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
        """Train until finished; each step of the iteration is one epoch.

        Args:
            on_batch: called after each batch with the number of batches done and in all, for a progress bar.

        Raises:
            DTNNError: the loss became NaN or infinite.
        """
        while not self.finished:
            epoch, start = len(self.history) + 1, time.perf_counter()
            train_loss = self._train_epoch(epoch, on_batch)
            predicted = self.predict(self.split.validation)
            expected = {target: self.data.tensors[target][self.split.validation] for target in predicted}
            validation = {target: mae_ten(predicted[target], expected[target]).item() for target in predicted}
            score = self._loss(predicted, expected).item()
            rate = self.optimizer.param_groups[0]["lr"]
            self.history.append(Epoch(epoch, rate, train_loss, validation, score, time.perf_counter() - start))
            if score < self.best_score:
                self.best_score, self.best_epoch, self.best_state = score, epoch, self._copy_weights()
            if self.finished or epoch % self.checkpoint_every == 0:
                self.checkpoint()
            yield self.history[-1]

    def predict(self, indices: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """Predict crystals of the data set with the weights that validation judges: the running mean.

        Args:
            indices: into `data`. [B].

        Returns:
            The mean over the members of the model. [B, 3, 3] by target.
        """
        return {target: tensors.mean(0) for target, tensors in self.predict_members(indices).items()}

    def predict_members(self, indices: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """Predict with each member of the model; see `predict`. [members, B, 3, 3] by target."""
        model = self.mean.model.eval()
        batches: dict[str, list[Tensor]] = {target: [] for target in self.data.targets}
        with torch.no_grad():
            for start in range(0, len(indices), EVALUATION_BATCH):
                graph, _ = self.data.batch(list(indices[start : start + EVALUATION_BATCH]))
                for target, tensors in model.member_tensors(graph).items():
                    batches[target].append(tensors)
        return {target: torch.cat(tensors, 1) for target, tensors in batches.items()}

    def load_best(self) -> DTNN:
        """Put the weights with the best validation error into the model, and return it."""
        self.mean.model.load_state_dict(self.best_state)
        return self.mean.model.eval()


def _cosine(fraction: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * min(fraction, 1.0)))

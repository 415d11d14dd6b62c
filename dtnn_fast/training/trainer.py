# SPDX-License-Identifier: MIT
"""The training loop: AdamW under a cosine schedule, a running mean of the weights, early stopping on validation."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ..datasets.splits import Split
from ..encoders.build import Encoder
from ..encoders.native import NativeEncoder
from ..errors import BadFileError, DTNNError
from ..model.decoder import Decoder, Readout
from ..model.dtnn import DTNN
from ..nn.graph import CrystalGraph
from ..nn.latents import EncodedCrystals
from .checkpoint import CHECKPOINT_FILE, load_checkpoint, save_checkpoint
from .labelled_data import LabelledData, LabelledLatents
from .metrics import isotropic_scale, mae_ten
from .partial_labels import PartialLabels, PartiallyLabelledGraphs, partial_loss
from .read_ahead import batches_on
from .training_settings import TrainingSettings
from .workers import ALONE, Workers

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


class _Loss(nn.Module):
    """The training loss as a module, which several processes need.

    Args:
        model: the model.
        target_weights: weight of each target.
        label_power: see `TrainingSettings`.
        born_weight: see `TrainingSettings`.
    """

    def __init__(
        self, model: DTNN, target_weights: dict[str, float], label_power: float = 0.0, born_weight: float = 0.0
    ) -> None:
        super().__init__()
        self.model, self.target_weights = model, target_weights
        self.label_power, self.born_weight = label_power, born_weight

    def forward(
        self,
        crystals: CrystalGraph | EncodedCrystals,
        expected: dict[str, Tensor] | PartialLabels,
        share: float = 1.0,
        num_processes: int = 1,
    ) -> Tensor:
        """Compute the weighted sum of the targets' errors, times `share`; of partial labels, see `partial_loss`."""
        if isinstance(expected, PartialLabels):
            assert isinstance(crystals, CrystalGraph)
            scales = {target: 1.0 / weight for target, weight in self.target_weights.items()}
            loss = partial_loss(self.model, crystals, expected, scales, self.label_power, self.born_weight)
            return float(share > 0) * num_processes * loss
        # The mean of the members' errors, not the error of their mean: so the members stay different.
        return share * self.of_tensors(self.model.member_tensors(crystals), expected)

    def of_tensors(self, predicted: dict[str, Tensor], expected: dict[str, Tensor]) -> Tensor:
        """Compute the loss of predictions."""
        losses = [self.target_weights[target] * mae_ten(predicted[target], expected[target]) for target in expected]
        return torch.stack(losses).sum()


@dataclass(frozen=True)
class _Batch:
    """What a process computes in a step.

    Args:
        crystals: graph or latents of its crystals.
        expected: tensors of its crystals by target, or their partial labels.
        share: factor of its mean loss; the mean of the results over the processes is the mean over all crystals of the
            step.
        num_crystals: number of crystals of the step in all processes.
    """

    crystals: CrystalGraph | EncodedCrystals
    expected: dict[str, Tensor] | PartialLabels
    share: float
    num_crystals: int


class Trainer:
    """Training of one model on one split.

    The crystals of a step are divided among the processes. They compute the same losses and weights as one process
    would, up to rounding and dropout.

    Args:
        settings: settings of the run.
        data: labelled crystals.
        split: indices into `data`.
        folder: folder of the checkpoint, from which training resumes; None writes no checkpoints.
        checkpoint_every: number of epochs between checkpoints.
        encoder: encoder with the initial weights; None for random weights.
        workers: the processes that train together, and the device of this one.

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
        workers: Workers = ALONE,
    ) -> None:
        if min(len(split.train), len(split.validation)) == 0:
            raise DTNNError(f"train: expected at least 10 crystals, to have some for validation, got {len(data)}")
        self.settings, self.data, self.split, self.folder = settings, data, split, folder
        self.checkpoint_every, self.workers = checkpoint_every, workers
        torch.manual_seed(settings.seed + _MEMBER_STRIDE * settings.member)
        # A copy, because the next run starts from the same weights.
        own_encoder = copy.deepcopy(encoder) if isinstance(encoder, NativeEncoder) else encoder
        self.model = DTNN(settings.model, own_encoder)
        self.model.encoder.requires_grad_(not settings.frozen and settings.encoder_rate > 0)
        self.target_weights = self._scale_to_training_set()
        self.model.to(workers.device)
        self.optimizer = torch.optim.AdamW(
            _parameter_groups(self.model, settings.encoder_rate),
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=True,  # the usual form reads the number of steps of each parameter
        )
        self._loss = _Loss(self.model, self.target_weights, settings.label_power, settings.born_weight)
        self._parallel_loss = workers.parallel(self._loss)
        self.mean = RunningMean(self.model, settings.average)
        self.history: list[Epoch] = []
        self.best_score, self.best_epoch = math.inf, 0
        self.best_state = self._copy_weights()
        self._resume()

    def _copy_weights(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.mean.model.state_dict().items()}

    def _scale_to_training_set(self) -> dict[str, float]:
        """Fit each readout's offset and scale, and the sizes of frozen latents; return each target's loss weight."""
        ranges = {
            target: isotropic_scale(_known(tensors[self.split.train])) for target, tensors in self.data.tensors.items()
        }
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
        # Of partial labels, the weight also says which tensors are large, so that a single target needs its spread too.
        is_plain = len(ranges) == 1 and not isinstance(self.data, PartiallyLabelledGraphs)
        return {target: 1.0 if is_plain else 1.0 / scale for target, (_, scale) in ranges.items()}

    def _resume(self) -> None:
        mean = self.mean.model if self.settings.average else None
        checkpoint = load_checkpoint(self.folder, self.model, self.optimizer, mean) if self.folder else None
        if self.folder is None or checkpoint is None:
            return
        progress, best_state = checkpoint
        self.best_state = {name: value.to(self.workers.device) for name, value in best_state.items()}
        try:
            self.mean.steps = progress["mean_steps"]
            self.history = [Epoch(**epoch) for epoch in progress["history"]]
            self.best_score, self.best_epoch = progress["best_score"], progress["best_epoch"]
        except (KeyError, TypeError) as error:
            raise BadFileError(f"{self.folder / CHECKPOINT_FILE}: not a complete checkpoint: {error!r}") from error

    def checkpoint(self) -> None:
        """Write the state after the last whole epoch to the folder, if there is one; only the first process does."""
        if self.folder is None or self.workers.rank > 0:
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

    def _batches(self, order: np.ndarray) -> Iterator[_Batch]:
        """Make this process's share of the batches of an epoch."""
        rank, num_processes = self.workers.share
        for start in range(0, len(order), self.settings.batch_size):
            indices = order[start : start + self.settings.batch_size].tolist()
            own = indices[rank::num_processes]
            # Every process takes part in every step, also where the last batch has fewer crystals than processes.
            crystals, expected = self.data.batch(own or indices[:1], indices)
            yield _Batch(crystals, expected, len(own) * num_processes / len(indices), len(indices))

    def _train_epoch(self, epoch: int, on_batch: Callable[[int, int], None]) -> float:
        settings, device = self.settings, self.workers.device
        # Each epoch has its own seed, so that a resumed run takes the same order.
        seed = (settings.seed, epoch, settings.member) if settings.member else (settings.seed, epoch)
        order = np.random.RandomState(seed).permutation(self.split.train)
        if self.workers.num_processes > 1 or device.type != "cpu":
            # The checkpoint keeps the random state of the first process's CPU alone.
            numbers = np.random.SeedSequence((settings.seed, settings.member, epoch, self.workers.rank))
            torch.manual_seed(int(numbers.generate_state(1, np.uint64)[0]))
        num_steps = -(-len(order) // settings.batch_size)
        total = torch.zeros((), dtype=torch.float64, device=device)
        self.model.train()
        with closing(batches_on(device, lambda: self._batches(order))) as batches:
            for step, batch in enumerate(batches):
                rate = settings.learning_rate * _cosine((epoch - 1 + step / num_steps) / settings.epochs)
                total += self._step(batch, rate) * batch.num_crystals
                on_batch(step + 1, num_steps)
        mean_loss = self.workers.sum(total).item() / (len(order) * self.workers.num_processes)
        if not math.isfinite(mean_loss):
            raise DTNNError(
                f"train: the loss became {mean_loss} in epoch {epoch}; a lower learning rate than "
                f"{settings.learning_rate:g} may help"
            )
        return mean_loss

    def _step(self, batch: _Batch, rate: float) -> Tensor:
        """Take one step of the optimizer, and return the loss. Nothing in it waits for a GPU."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("rate", 1.0)
        loss: Tensor = self._parallel_loss(batch.crystals, batch.expected, batch.share, self.workers.num_processes)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        self.mean.update()
        return loss.detach()

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
            score = self._loss.of_tensors(predicted, expected).item()
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
            The mean over the members of the model. [B, 3, 3] by target, on the CPU.
        """
        return {target: tensors.mean(0) for target, tensors in self.predict_members(indices).items()}

    def predict_members(self, indices: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """Predict with each member of the model; see `predict`. [members, B, 3, 3] by target, on the CPU.

        The processes share the work, and all get all tensors.
        """
        model, device = self.mean.model.eval(), self.workers.device
        rank, num_processes = self.workers.share
        starts = range(rank * EVALUATION_BATCH, len(indices), num_processes * EVALUATION_BATCH)
        tensors = torch.zeros(len(self.data.targets), self.settings.model.members, len(indices), 3, 3, device=device)

        def make_batches() -> Iterator[CrystalGraph | EncodedCrystals]:
            for start in starts:
                yield self.data.batch(list(indices[start : start + EVALUATION_BATCH]))[0]

        with torch.no_grad(), closing(batches_on(device, make_batches)) as batches:
            for start, batch in zip(starts, batches, strict=True):
                predicted = model.member_tensors(batch)
                for place, target in enumerate(self.data.targets):
                    tensors[place, :, start : start + EVALUATION_BATCH] = predicted[target]
        return dict(zip(self.data.targets, self.workers.sum(tensors).cpu(), strict=True))

    def load_best(self) -> DTNN:
        """Put the weights with the best validation error into the model, and return it."""
        self.mean.model.load_state_dict(self.best_state)
        return self.mean.model.eval()


def _known(tensors: Tensor) -> Tensor:
    """Select the tensors whose diagonal is known."""
    return tensors[~tensors.diagonal(dim1=1, dim2=2).isnan().any(1)]


def _parameter_groups(model: DTNN, encoder_rate: float) -> list[dict[str, Any]]:
    """List the trained parameters, those of the encoder by themselves where their learning rate is another."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    of_encoder = {id(parameter) for parameter in model.encoder.parameters()} if encoder_rate != 1.0 else set()
    rest = [parameter for parameter in trained if id(parameter) not in of_encoder]
    slow = [parameter for parameter in trained if id(parameter) in of_encoder]
    return [{"params": rest}, *([{"params": slow, "rate": encoder_rate}] if slow else [])]


def _cosine(fraction: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * min(fraction, 1.0)))

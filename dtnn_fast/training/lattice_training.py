# SPDX-License-Identifier: MIT
"""Training of a `LatticeModel`: AdamW under a cosine schedule, and the running mean of the weights as the result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..crystals.crystal import Crystal
from ..errors import BadFileError, DTNNError
from ..model.lattice_model import LatticeGraph, LatticeModel
from .checkpoint import CHECKPOINT_FILE, load_checkpoint, save_checkpoint
from .lattice_loss import TERMS, LatticeLabels, lattice_terms
from .trainer import RunningMean

# Steps until the learning rate is at its full height.
_WARM_UP = 100
# Crystals whose latents set the sizes of the decoder's inputs.
_SIZED = 200


@dataclass(frozen=True)
class LatticeSettings:
    """Settings of a training.

    Args:
        seed: seed of the initial weights, dropout, order of crystals, and of the split.
        epochs: passes over the training crystals.
        batch_size: crystals per step.
        learning_rate: highest learning rate of AdamW; decays to zero on a half cosine.
        weight_decay: weight decay of AdamW.
        clip_norm: maximum norm of a gradient.
        average: weight of the old mean in the running mean of the weights.
        born_weight: weight of the Born charges in the loss, where force constants have 1.
        ionic_weight: weight of the ionic tensor.
    """

    seed: int = 0
    epochs: int = 24
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    clip_norm: float = 2.0
    average: float = 0.998
    born_weight: float = 1.0
    ionic_weight: float = 0.5

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size) < 1 or self.learning_rate <= 0 or not 0 <= self.average < 1:
            raise ValueError(
                f"LatticeSettings: expected `epochs` and `batch_size` of 1 or more, a positive `learning_rate` and "
                f"`average` from 0 to below 1, got {self}"
            )


class LatticeData:
    """Crystals with their graphs and labels, and the index of their functional.

    Args:
        crystals: crystals that passed `check_crystal`, with force constants, Born charges or ionic tensors.
        model: the model that reads the graphs.

    Raises:
        DTNNError: a crystal has none of these labels, or an unknown functional.
    """

    def __init__(self, crystals: Sequence[Crystal], model: LatticeModel) -> None:
        self.crystals = list(crystals)
        functionals = model.config.functionals
        self.functional: list[int] = []
        for crystal in self.crystals:
            name = crystal.info.get("functional", functionals[0] if functionals else None)
            if functionals and name not in functionals:
                raise DTNNError(f"{crystal.label}: expected a functional of {', '.join(functionals)}, got {name!r}")
            self.functional.append(functionals.index(name) if functionals else 0)
        self.labels = [LatticeLabels.of(crystal) for crystal in self.crystals]
        for crystal, label in zip(self.crystals, self.labels, strict=True):
            if not label.names:
                raise DTNNError(f"{crystal.label}: expected force constants, Born charges or an ionic tensor, got none")
        cutoffs, pair_cutoff = model.encoder.cutoffs, model.config.pair_cutoff
        self.graphs = [LatticeGraph.of(crystal, cutoffs, pair_cutoff, model.dtype) for crystal in self.crystals]

    def __len__(self) -> int:
        return len(self.crystals)

    def batch(
        self, rows: Sequence[int], device: torch.device | str = "cpu"
    ) -> tuple[LatticeGraph, Tensor, list[LatticeLabels]]:
        """Join some crystals on a device; returns their graph, functionals [B] and labels."""
        functional = torch.tensor([self.functional[row] for row in rows], device=device)
        graph = LatticeGraph.join([self.graphs[row] for row in rows]).to(device)
        return graph, functional, [self.labels[row].to(device) for row in rows]


@dataclass(frozen=True)
class LatticeEpoch:
    """Record of an epoch.

    Args:
        epoch: number, counted from 1.
        terms: means of the terms of the loss over the steps, by name; see `lattice_loss.lattice_terms`.
        seconds: wall-clock time.
    """

    epoch: int
    terms: dict[str, float]
    seconds: float


class LatticeTrainer:
    """Training of one model.

    There is no early stopping: the schedule ends at a learning rate of zero, and the running mean of the weights there
    is the result.

    Args:
        model: the model with its initial weights; it is trained in place, on its device.
        data: what it learns from.
        settings: settings.
        folder: folder of the checkpoint, from which training resumes; None writes none.
        set_input_sizes: whether the sizes of the decoder's inputs are measured; a trained model keeps its own.

    Raises:
        DTNNError: there are no crystals.
        BadFileError: the checkpoint is damaged, or belongs to a model with other settings.
    """

    def __init__(
        self,
        model: LatticeModel,
        data: LatticeData,
        settings: LatticeSettings,
        folder: Path | None = None,
        *,
        set_input_sizes: bool = True,
    ) -> None:
        if len(data) == 0:
            raise DTNNError("train-lattice: expected crystals with force constants or Born charges, got none")
        self.model, self.data, self.settings, self.folder = model, data, settings, folder
        if set_input_sizes:
            self._set_input_sizes()
        self.optimizer = torch.optim.AdamW(
            list(model.parameters()), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        self.mean = RunningMean(model, settings.average)
        self.history: list[LatticeEpoch] = []
        self._resume()

    def _set_input_sizes(self) -> None:
        rows = np.random.RandomState(self.settings.seed).permutation(len(self.data))[:_SIZED].tolist()
        graph, _, _ = self.data.batch(rows, self.model.device)
        with torch.no_grad():
            latents = self.model.encoder(graph.graph, False)
            self.model.atom_input.set_sizes(latents, graph.graph.atom_weight)

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
            self.history = [LatticeEpoch(**epoch) for epoch in progress["history"]]
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

    def epochs(self, on_batch: Callable[[int, int], None] = lambda done, total: None) -> Iterator[LatticeEpoch]:
        """Train until the last epoch; each step of the iteration is one epoch.

        Args:
            on_batch: called after each batch with the number of batches done and in all.

        Raises:
            DTNNError: the loss became NaN or infinite.
        """
        while len(self.history) < self.settings.epochs:
            epoch, start = len(self.history) + 1, time.perf_counter()
            terms = self._train_epoch(epoch, on_batch)
            self.history.append(LatticeEpoch(epoch, terms, time.perf_counter() - start))
            self.checkpoint()
            yield self.history[-1]

    def _train_epoch(self, epoch: int, on_batch: Callable[[int, int], None]) -> dict[str, float]:
        settings = self.settings
        weights = dict(zip(TERMS, (1.0, settings.born_weight, settings.ionic_weight), strict=True))
        # Each epoch has its own seed, so that a resumed run takes the same order.
        order = np.random.RandomState((settings.seed, epoch)).permutation(len(self.data))
        num_steps = -(-len(order) // settings.batch_size)
        sums, counts = dict.fromkeys(TERMS, 0.0), dict.fromkeys(TERMS, 0)
        self.model.train()
        for step in range(num_steps):
            done = (epoch - 1) * num_steps + step
            height = min(1.0, (done + 1) / _WARM_UP)
            height *= 0.5 * (1.0 + math.cos(math.pi * done / (num_steps * settings.epochs)))
            for group in self.optimizer.param_groups:
                group["lr"] = height * settings.learning_rate
            rows = order[step * settings.batch_size : (step + 1) * settings.batch_size].tolist()
            graph, functional, labels = self.data.batch(rows, self.model.device)
            matrices, charges = self.model(graph, functional)
            terms = lattice_terms(matrices, charges, labels)
            loss = torch.stack([weights[name] * value for name, value in terms.items()]).sum()
            if not math.isfinite(loss.item()):
                raise DTNNError(
                    f"train-lattice: the loss became {loss.item()} in epoch {epoch}; a lower learning rate than "
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

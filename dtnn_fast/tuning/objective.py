# SPDX-License-Identifier: MIT
"""The objective of a search: the validation error of a trained model, which never depends on test crystals."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..crystals.crystal import Crystal
from ..datasets.splits import Split
from ..encoders.build import Encoder
from ..encoders.latent_cache import LatentTable
from ..errors import DTNNError
from ..training.labelled_data import LabelledData, make_labelled_data
from ..training.trainer import Epoch, Trainer
from ..training.training_settings import TrainingSettings
from ..training.workers import Workers
from .search_space import Value, suggest


class TrainerFactory:
    """Makes the trainers of runs that share crystals, graphs and latents; nothing is written to disk.

    Args:
        crystals: labelled, cleaned and checked crystals.
        make_encoder: gives the frozen encoder with a number of layers, or None where runs train an encoder from random
            weights.
        encode: gives the latents of the crystals by a frozen encoder, of the layers that a decoder reads.
        device: device to train on.
    """

    def __init__(
        self,
        crystals: Sequence[Crystal],
        make_encoder: Callable[[int], Encoder | None],
        encode: Callable[[Encoder, Sequence[int]], LatentTable],
        device: torch.device | str = "cpu",
    ) -> None:
        self._workers = Workers(0, 1, torch.device(device))
        self.crystals, self._make_encoder, self._encode = crystals, make_encoder, encode
        self._encoders: dict[tuple[int, ...], tuple[Encoder | None, LatentTable | None]] = {}
        self._data: dict[tuple[tuple[int, ...], bool], LabelledData] = {}

    def __call__(self, settings: TrainingSettings, parts: Split) -> Trainer:
        """Make the trainer of a run.

        Args:
            settings: settings of the run.
            parts: training, validation and test crystals.
        """
        decoder = settings.model.decoder
        encoder, latents = self._encoder_and_latents(decoder.layer, decoder.kept_layers)
        key = (decoder.kept_layers, decoder.bonds)
        if key not in self._data:
            self._data[key] = make_labelled_data(settings, self.crystals, latents)
        settings = replace(settings, frozen=latents is not None)
        return Trainer(settings, self._data[key], parts, encoder=encoder, workers=self._workers)

    def _encoder_and_latents(
        self, num_layers: int, kept_layers: tuple[int, ...]
    ) -> tuple[Encoder | None, LatentTable | None]:
        if kept_layers not in self._encoders:
            encoder = self._make_encoder(num_layers)
            latents = None if encoder is None else self._encode(encoder, kept_layers)
            self._encoders[kept_layers] = (encoder, latents)
        return self._encoders[kept_layers]


MakeTrainer = Callable[[TrainingSettings, Split], Trainer]


class Pruned(Exception):  # noqa: N818  not an error
    """A trial was given up: other trials were better at the same epoch, or its loss became infinite or NaN."""


class Objective:
    """Trains the model of a trial on each split, without the test crystals.

    Args:
        base: settings that are not searched.
        fixed: values of settings that could be searched but are fixed.
        splits: splits by seed; their test parts are dropped here.
        make_trainer: makes the trainer of a run.
        on_epoch: called after each epoch, for a progress bar.
    """

    def __init__(
        self,
        base: TrainingSettings,
        fixed: Mapping[str, Value],
        splits: Mapping[int, Split],
        make_trainer: MakeTrainer,
        on_epoch: Callable[[Trainer, Epoch], None] = lambda trainer, epoch: None,
    ) -> None:
        no_crystals = np.empty(0, dtype=np.int64)
        self.base, self.fixed = base, dict(fixed)
        self.splits = {seed: parts._replace(test=no_crystals) for seed, parts in splits.items()}
        self.make_trainer, self.on_epoch = make_trainer, on_epoch

    def __call__(self, trial: Any) -> float:
        """Train with the settings of a trial.

        Args:
            trial: trial of Optuna; it gets the validation error after each epoch, and attributes: seconds, the best
                epoch and its errors for each split, and the reason where it was given up.

        Returns:
            The best validation error, as early stopping sees it; mean over the splits.

        Raises:
            Pruned: the trial was given up.
            DTNNError: the crystals or splits do not fit, which no trial can change.
        """
        settings = suggest(trial, self.base, self.fixed)
        start = time.perf_counter()
        scores: list[float] = []
        best: dict[str, dict[str, Any]] = {}
        for split_number, (seed, parts) in enumerate(self.splits.items()):
            trainer = self.make_trainer(replace(settings, seed=seed), parts)
            try:
                for epoch in trainer.epochs():
                    mean_score = statistics.fmean([*scores, trainer.best_score])
                    # Steps of a split start after the largest possible number of epochs of the splits before it.
                    trial.report(mean_score, split_number * settings.epochs + epoch.epoch)
                    self.on_epoch(trainer, epoch)
                    if trial.should_prune():
                        raise Pruned("worse than other trials at the same epoch")
            except DTNNError as error:
                trial.set_user_attr("reason", str(error))
                raise Pruned(str(error)) from error
            finally:
                trial.set_user_attr("seconds", time.perf_counter() - start)
            scores.append(trainer.best_score)
            best_epoch = trainer.history[trainer.best_epoch - 1]
            best[str(seed)] = {"best_epoch": trainer.best_epoch, "validation": best_epoch.validation}
            trial.set_user_attr("splits", best)
        value = statistics.fmean(scores)
        if not math.isfinite(value):
            reason = f"its validation error is {value}"
            trial.set_user_attr("reason", reason)
            raise Pruned(reason)
        return value

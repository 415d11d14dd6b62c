# SPDX-License-Identifier: MIT
"""What a trial is judged by: the validation error of trained models. Test crystals are not shown to it."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..crystals.crystal import Crystal
from ..datasets.splits import Split
from ..encoders.build import Encoder
from ..encoders.latent_cache import LatentTable
from ..errors import DTNNError
from ..training.labelled_data import LabelledGraphs, LabelledLatents, make_labelled_data
from ..training.trainer import Epoch, Trainer
from ..training.training_settings import TrainingSettings
from .search_space import Value, suggest


class Trainers:
    """Makes the trainer of a run; nothing is written to disk.

    Args:
        crystals: labelled, cleaned and checked.
        encoder_of: gives the encoder with so many layers that runs start from and keep, or None where they train one
            from random weights.
        latents_of: gives the latents of the crystals by such an encoder, of the layers that a decoder reads.
    """

    def __init__(
        self,
        crystals: Sequence[Crystal],
        encoder_of: Callable[[int], Encoder | None],
        latents_of: Callable[[Encoder, Sequence[int]], LatentTable],
    ) -> None:
        self.crystals, self._encoder_of, self._latents_of = crystals, encoder_of, latents_of
        self._encoders: dict[tuple[int, ...], tuple[Encoder | None, LatentTable | None]] = {}
        self._data: dict[tuple[tuple[int, ...], bool], LabelledGraphs | LabelledLatents] = {}

    def __call__(self, settings: TrainingSettings, parts: Split) -> Trainer:
        """The trainer of these settings on these parts of the crystals."""
        decoder = settings.model.decoder
        encoder, table = self._encoder(decoder.layer, decoder.kept_layers)
        kind = (decoder.kept_layers, decoder.bonds)
        if kind not in self._data:
            self._data[kind] = make_labelled_data(settings, self.crystals, table)
        settings = replace(settings, frozen=table is not None)
        return Trainer(settings, self._data[kind], parts, encoder=encoder)

    def _encoder(self, last: int, layers: tuple[int, ...]) -> tuple[Encoder | None, LatentTable | None]:
        if layers not in self._encoders:
            encoder = self._encoder_of(last)
            table = None if encoder is None else self._latents_of(encoder, layers)
            self._encoders[layers] = (encoder, table)
        return self._encoders[layers]


TrainerMaker = Callable[[TrainingSettings, Split], Trainer]


class Pruned(Exception):  # noqa: N818  not an error
    """A trial was given up because others were better at this point, or because its loss was no number any more."""


class Objective:
    """Trains the model of a trial on each split.

    Args:
        base: what is not searched.
        fixed: searched settings that keep a value.
        splits: by seed; their test parts are dropped here.
        make_trainer: makes the trainer of a run.
        on_epoch: called after each epoch with the trainer, for a progress bar.
    """

    def __init__(
        self,
        base: TrainingSettings,
        fixed: Mapping[str, Value],
        splits: Mapping[int, Split],
        make_trainer: TrainerMaker,
        on_epoch: Callable[[Trainer, Epoch], None] = lambda trainer, epoch: None,
    ) -> None:
        nothing = np.empty(0, dtype=np.int64)
        self.base, self.fixed = base, dict(fixed)
        self.splits = {seed: parts._replace(test=nothing) for seed, parts in splits.items()}
        self.make_trainer, self.on_epoch = make_trainer, on_epoch

    def __call__(self, trial: Any) -> float:
        """Train with the settings of a trial.

        Args:
            trial: of Optuna; gets the validation error after each epoch, and its settings and errors as attributes.

        Returns:
            The best validation error, as early stopping sees it, mean over the splits.

        Raises:
            Pruned: the trial was given up.
        """
        settings = suggest(trial, self.base, self.fixed)
        start = time.perf_counter()
        scores: list[float] = []
        best: dict[str, dict[str, Any]] = {}
        for place, (seed, parts) in enumerate(self.splits.items()):
            trainer = self.make_trainer(replace(settings, seed=seed), parts)
            try:
                for epoch in trainer.epochs():
                    so_far = statistics.fmean([*scores, trainer.best_score])
                    # Epochs of the second split come after all that the first one could have had.
                    trial.report(so_far, place * settings.epochs + epoch.epoch)
                    self.on_epoch(trainer, epoch)
                    if trial.should_prune():
                        raise Pruned("worse than others at this point")
            except DTNNError as error:
                trial.set_user_attr("reason", str(error))
                raise Pruned(str(error)) from error
            finally:
                trial.set_user_attr("seconds", time.perf_counter() - start)
            scores.append(trainer.best_score)
            record = trainer.history[trainer.best_epoch - 1]
            best[str(seed)] = {"best_epoch": trainer.best_epoch, "validation": record.validation}
            trial.set_user_attr("splits", best)
        value = statistics.fmean(scores)
        if not math.isfinite(value):
            trial.set_user_attr("reason", "its validation error is no number")
            raise Pruned("its validation error is no number")
        return value

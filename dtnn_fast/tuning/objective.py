# SPDX-License-Identifier: MIT
"""What a trial is judged by: the validation error of trained models. Test crystals are not shown to it."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..datasets.splits import Split
from ..errors import DTNNError
from ..training.trainer import Epoch, Trainer
from ..training.training_settings import TrainingSettings
from .search_space import Value, suggest

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

# SPDX-License-Identifier: MIT
"""Predict a stream of crystals in batches, where one that fails is found and never loses the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from ..crystals.checks import check_crystal
from ..crystals.crystal import Crystal, Rejected
from ..errors import BadCrystalError
from ..model.predictor import Predictor
from ..nn.graph import batches_of_atoms
from .store import Predictions

# Crystals that are sorted by size together, so that batches are even; also what is in memory of a stream.
WINDOW = 2048


class ScreeningStopped(KeyboardInterrupt):
    """A screening was interrupted, by Ctrl-C; what was done until then is kept here.

    Args:
        predictions: the predictions that were finished.
        rejected: what had been rejected.
    """

    def __init__(self, predictions: Predictions, rejected: list[Rejected]) -> None:
        super().__init__(f"stopped after {len(predictions)} predictions")
        self.predictions = predictions
        self.rejected = rejected


def screen_crystals(
    model: Predictor,
    items: Iterable[Crystal | Rejected],
    batch_atoms: int = 1024,
    on_done: Callable[[int], None] = lambda number: None,
) -> tuple[Predictions, list[Rejected]]:
    """Predict the tensors of all targets of a model for a stream of crystals.

    Args:
        model: the model.
        items: crystals, and records of those that could not be read, which are passed on.
        batch_atoms: about how many atoms are treated together.
        on_done: called with the number of crystals that were finished since the last call.

    Returns:
        The predictions in the order of the stream, and what was rejected: crystals that could not be read, did not pass
        `check_crystal`, made the model fail, or whose prediction is not finite.

    Raises:
        ScreeningStopped: on KeyboardInterrupt, with the predictions until then.
    """
    known = frozenset(model.elements) or None
    stream = iter(items)
    # Windows that are finished, and behind them the one that is not: an interrupt finds everything here.
    parts: list[_Window | _Part] = []
    try:
        with model.evaluating():
            while True:
                window = _Window(model.targets, model.targets if model.error_scales else ())
                parts.append(window)
                window.fill(islice(stream, WINDOW), known, on_done)
                if not window.crystals and not window.rejected:
                    break
                for batch in batches_of_atoms(window.crystals, batch_atoms):
                    answers = _predict(model, [window.crystals[index] for index in batch])
                    window.results.update(zip(batch, answers, strict=True))
                    on_done(len(batch))
                parts[-1] = window.finish()
    except KeyboardInterrupt:
        raise ScreeningStopped(*_join(parts)) from None
    return _join(parts)


_Part = tuple[Predictions, list[Rejected]]


class _Answer(NamedTuple):
    """The tensors of a crystal by target, and their error bars where the model has them."""

    tensors: dict[str, np.ndarray]
    errors: dict[str, float]


class _Window:
    """Some crystals of the stream, with the tensors of each by its index, or why there are none."""

    def __init__(self, targets: Sequence[str], error_targets: Sequence[str]) -> None:
        self.targets, self.error_targets = targets, error_targets
        self.crystals: list[Crystal] = []
        self.rejected: list[Rejected] = []
        self.results: dict[int, _Answer | str] = {}

    def fill(
        self, items: Iterable[Crystal | Rejected], known: frozenset[int] | None, on_done: Callable[[int], None]
    ) -> None:
        """Take items, and check the crystals among them."""
        for item in items:
            checked = item if isinstance(item, Rejected) else _check(item, known)
            if isinstance(checked, Rejected):
                self.rejected.append(checked)
                on_done(1)
            else:
                self.crystals.append(checked)

    def finish(self, find_systems: bool = True) -> _Part:
        """Predictions in the order of the stream, without crystals that have no result yet, and the rejected."""
        rejected = list(self.rejected)
        predicted: list[Crystal] = []
        answers: list[_Answer] = []
        for index, result in sorted(self.results.items(), key=lambda entry: entry[0]):
            crystal = self.crystals[index]
            if isinstance(result, str):
                rejected.append(Rejected(crystal.id, crystal.source, result))
                continue
            predicted.append(crystal)
            answers.append(result)
        tensors = {t: np.array([answer.tensors[t] for answer in answers]).reshape(-1, 3, 3) for t in self.targets}
        errors = {t: np.array([answer.errors[t] for answer in answers]) for t in self.error_targets}
        return Predictions.of(predicted, tensors, errors, find_systems), rejected


def _join(windows: Sequence[_Window | _Part]) -> _Part:
    # An unfinished window is one that was interrupted: its results must not wait for the search for symmetry.
    parts = [window.finish(find_systems=False) if isinstance(window, _Window) else window for window in windows]
    return Predictions.join([predictions for predictions, _ in parts]), [r for _, rejected in parts for r in rejected]


def _check(crystal: Crystal, known: frozenset[int] | None) -> Crystal | Rejected:
    try:
        check_crystal(crystal, known)
    except BadCrystalError as error:
        return Rejected.from_error(error, crystal.id, crystal.source)
    return crystal


def _predict(model: Predictor, crystals: Sequence[Crystal]) -> list[_Answer | str]:
    """The tensors of each crystal, or why there are none; a batch that fails is halved until the culprit is alone."""
    try:
        tensors, errors = model.predict_batch_with_errors(crystals)
    except Exception as error:
        if len(crystals) == 1:
            return [f"the model failed: {error or type(error).__name__}"]
        half = len(crystals) // 2
        return _predict(model, crystals[:half]) + _predict(model, crystals[half:])
    answers: list[_Answer | str] = []
    for index in range(len(crystals)):
        answer = _Answer(
            {target: values[index] for target, values in tensors.items()},
            {target: float(values[index]) for target, values in errors.items()},
        )
        broken = [target for target, tensor in answer.tensors.items() if not np.isfinite(tensor).all()]
        answers.append(f"the predicted {broken[0]} tensor is not finite" if broken else answer)
    return answers

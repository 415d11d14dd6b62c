# SPDX-License-Identifier: MIT
"""Prediction of a stream of crystals in batches; a crystal that fails is rejected and never stops the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from ..crystals.checks import check_crystal
from ..crystals.crystal import Crystal, Rejected
from ..errors import BadCrystalError
from ..model.predictor import Predictor
from ..nn.graph import crystal_batches
from .store import ScreenedCrystals

# Number of crystals in memory; they are sorted by size together, so that the crystals of a batch are of similar size.
CHUNK_SIZE = 2048

ScreeningResult = tuple[ScreenedCrystals, list[Rejected]]


class ScreeningStopped(KeyboardInterrupt):
    """Ctrl-C during a screening; holds what was done until then.

    Args:
        screened: the crystals that were predicted.
        rejected: the crystals that were rejected.
    """

    def __init__(self, screened: ScreenedCrystals, rejected: list[Rejected]) -> None:
        super().__init__(f"stopped after {len(screened)} predictions")
        self.screened = screened
        self.rejected = rejected


def screen_crystals(
    model: Predictor,
    items: Iterable[Crystal | Rejected],
    batch_atoms: int = 1024,
    on_done: Callable[[int], None] = lambda number: None,
) -> ScreeningResult:
    """Predict the tensors of all targets of a model for a stream of crystals.

    Args:
        model: the model.
        items: crystals; a `Rejected` for each crystal that could not be read is passed on.
        batch_atoms: maximum number of atoms in a batch, except for one larger crystal.
        on_done: called with the number of crystals finished since the last call.

    Returns:
        The predicted crystals in the order of the stream, and the rejected: crystals that could not be read, did not
        pass `check_crystal`, made the model fail, or whose prediction is not finite.

    Raises:
        ScreeningStopped: on KeyboardInterrupt, with the predictions until then.
    """
    known_elements = frozenset(model.elements) or None
    stream = iter(items)
    # Finished chunks, then the current one, so that Ctrl-C loses nothing.
    chunks: list[_Chunk | ScreeningResult] = []
    try:
        with model.evaluating():
            while True:
                chunk = _Chunk(model.targets, model.targets if model.error_scales else ())
                chunks.append(chunk)
                chunk.fill(islice(stream, CHUNK_SIZE), known_elements, on_done)
                if not chunk.crystals and not chunk.rejected:
                    break
                for batch in crystal_batches(chunk.crystals, batch_atoms):
                    outcomes = _predict(model, [chunk.crystals[index] for index in batch])
                    chunk.outcomes.update(zip(batch, outcomes, strict=True))
                    on_done(len(batch))
                chunks[-1] = chunk.finish()
    except KeyboardInterrupt:
        raise ScreeningStopped(*_join(chunks)) from None
    return _join(chunks)


class _Prediction(NamedTuple):
    """The tensors of a crystal by target, and its error bars by target where the model has them."""

    tensors: dict[str, np.ndarray]
    error_bars: dict[str, float]


class _Chunk:
    """Some crystals of the stream; `outcomes` has each one's prediction, or the reason of its failure, by index."""

    def __init__(self, targets: Sequence[str], error_targets: Sequence[str]) -> None:
        self.targets, self.error_targets = targets, error_targets
        self.crystals: list[Crystal] = []
        self.rejected: list[Rejected] = []
        self.outcomes: dict[int, _Prediction | str] = {}

    def fill(
        self,
        items: Iterable[Crystal | Rejected],
        known_elements: frozenset[int] | None,
        on_done: Callable[[int], None],
    ) -> None:
        """Take items, and check the crystals among them."""
        for item in items:
            checked = item if isinstance(item, Rejected) else _check(item, known_elements)
            if isinstance(checked, Rejected):
                self.rejected.append(checked)
                on_done(1)
            else:
                self.crystals.append(checked)

    def finish(self) -> ScreeningResult:
        """Return the predicted crystals in the order of the stream, and the rejected; unfinished ones are left out."""
        rejected = list(self.rejected)
        predicted: list[Crystal] = []
        predictions: list[_Prediction] = []
        for index in sorted(self.outcomes):
            crystal, outcome = self.crystals[index], self.outcomes[index]
            if isinstance(outcome, str):
                rejected.append(Rejected(crystal.id, crystal.source, outcome))
            else:
                predicted.append(crystal)
                predictions.append(outcome)
        tensors = {t: np.array([p.tensors[t] for p in predictions]).reshape(-1, 3, 3) for t in self.targets}
        error_bars = {t: np.array([p.error_bars[t] for p in predictions]) for t in self.error_targets}
        return ScreenedCrystals.of(predicted, tensors, error_bars), rejected


def _join(chunks: Sequence[_Chunk | ScreeningResult]) -> ScreeningResult:
    finished = [chunk.finish() if isinstance(chunk, _Chunk) else chunk for chunk in chunks]
    tables = [table for table, _ in finished]
    return ScreenedCrystals.join(tables), [reject for _, rejected in finished for reject in rejected]


def _check(crystal: Crystal, known_elements: frozenset[int] | None) -> Crystal | Rejected:
    try:
        check_crystal(crystal, known_elements)
    except BadCrystalError as error:
        return Rejected.from_error(error, crystal.id, crystal.source)
    return crystal


def _predict(model: Predictor, crystals: Sequence[Crystal]) -> list[_Prediction | str]:
    """Predict each crystal, or give the reason of its failure; a failing batch is halved until the culprit is alone."""
    try:
        tensors, error_bars = model.predict_batch_with_errors(crystals)
    except Exception as error:
        if len(crystals) == 1:
            return [f"the model failed: {str(error) or type(error).__name__}"]
        half = len(crystals) // 2
        return _predict(model, crystals[:half]) + _predict(model, crystals[half:])
    outcomes: list[_Prediction | str] = []
    for index in range(len(crystals)):
        prediction = _Prediction(
            {target: values[index] for target, values in tensors.items()},
            {target: float(values[index]) for target, values in error_bars.items()},
        )
        broken = [target for target, tensor in prediction.tensors.items() if not np.isfinite(tensor).all()]
        outcomes.append(f"the predicted {broken[0]} tensor is not finite" if broken else prediction)
    return outcomes

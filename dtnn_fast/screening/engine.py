# SPDX-License-Identifier: MIT
"""Predict a stream of crystals in batches, where one that fails is found and never loses the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch

from ..data.check import check_crystal
from ..data.crystal import Crystal
from ..data.rejected import Rejected
from ..errors import BadCrystalError
from ..nn.model import DTNN, batches_of_atoms
from .predictions import Predictions

# Crystals that are sorted by size together, so that batches are even; also what is in memory of a stream.
WINDOW = 2048


def screen_crystals(
    model: DTNN,
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
    """
    known = frozenset(model.config.elements) or None
    parts = [Predictions.of([], {target: np.empty((0, 3, 3)) for target in model.config.targets})]
    rejected: list[Rejected] = []
    was_training = model.training
    model.eval()
    try:
        for window in _windows(items):
            usable: list[Crystal] = []
            for item in window:
                checked = item if isinstance(item, Rejected) else _check(item, known)
                if isinstance(checked, Rejected):
                    rejected.append(checked)
                else:
                    usable.append(checked)
            on_done(len(window) - len(usable))
            results: dict[int, dict[str, np.ndarray] | str] = {}
            for batch in batches_of_atoms(usable, batch_atoms):
                answers = _predict(model, [usable[index] for index in batch])
                results.update(zip(batch, answers, strict=True))
                on_done(len(batch))
            parts.append(_collect(usable, results, model.config.targets, rejected))
    finally:
        model.train(was_training)
    return Predictions.join(parts), rejected


def _windows(items: Iterable[Crystal | Rejected]) -> Iterator[list[Crystal | Rejected]]:
    window: list[Crystal | Rejected] = []
    for item in items:
        window.append(item)
        if len(window) == WINDOW:
            yield window
            window = []
    if window:
        yield window


def _check(crystal: Crystal, known: frozenset[int] | None) -> Crystal | Rejected:
    try:
        check_crystal(crystal, known)
    except BadCrystalError as error:
        return Rejected.because(error, crystal.id, crystal.source)
    return crystal


def _predict(model: DTNN, crystals: Sequence[Crystal]) -> list[dict[str, np.ndarray] | str]:
    """The tensors of each crystal, or why there are none; a batch that fails is halved until the culprit is alone."""
    try:
        with torch.no_grad():
            tensors = {target: values.double().cpu().numpy() for target, values in model(model.graph(crystals)).items()}
    except Exception as error:
        if len(crystals) == 1:
            return [f"the model failed: {error or type(error).__name__}"]
        half = len(crystals) // 2
        return _predict(model, crystals[:half]) + _predict(model, crystals[half:])
    answers: list[dict[str, np.ndarray] | str] = []
    for index in range(len(crystals)):
        answer = {target: values[index] for target, values in tensors.items()}
        broken = [target for target, tensor in answer.items() if not np.isfinite(tensor).all()]
        answers.append(f"the predicted {broken[0]} tensor is not finite" if broken else answer)
    return answers


def _collect(
    crystals: Sequence[Crystal],
    results: dict[int, dict[str, np.ndarray] | str],
    targets: Sequence[str],
    rejected: list[Rejected],
) -> Predictions:
    """Results in the order of the crystals; failures are added to `rejected`."""
    predicted: list[Crystal] = []
    tensors: dict[str, list[np.ndarray]] = {target: [] for target in targets}
    for index, crystal in enumerate(crystals):
        result = results[index]
        if isinstance(result, str):
            rejected.append(Rejected(crystal.id, crystal.source, result))
            continue
        predicted.append(crystal)
        for target in targets:
            tensors[target].append(result[target])
    return Predictions.of(predicted, {t: np.array(values).reshape(-1, 3, 3) for t, values in tensors.items()})

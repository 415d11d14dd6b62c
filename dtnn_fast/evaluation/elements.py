# SPDX-License-Identifier: MIT
"""The error of a model for each element."""

from __future__ import annotations

from dataclasses import dataclass

from ..training.metrics import crystal_errors
from .data_set import DataSet
from .models import Model


@dataclass(frozen=True)
class ElementError:
    """How well crystals with an element are predicted.

    Args:
        atomic_number: the element.
        crystals: of the data set that contain it.
        tested: test crystals of all splits that contain it; a crystal may be in the test part of several splits.
        mae_ten: mean over those.
    """

    atomic_number: int
    crystals: int
    tested: int
    mae_ten: float


def element_errors(model: Model, data: DataSet) -> list[ElementError]:
    """The mean error over the test crystals of all splits that contain an element, for each that occurs in them."""
    errors: dict[int, list[float]] = {}
    for run in model.runs.values():
        test = run.predictions.of_part("test")
        values = crystal_errors(test.predicted[model.target], test.expected[model.target])["mae_ten"]
        for id, value in zip(test.ids, values.tolist(), strict=True):
            for element in data.elements(id):
                errors.setdefault(element, []).append(value)
    counts = data.element_counts()
    return [ElementError(z, counts[z], len(errors[z]), sum(errors[z]) / len(errors[z])) for z in sorted(errors)]

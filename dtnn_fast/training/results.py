# SPDX-License-Identifier: MIT
"""The errors of a run on each part of its split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .metrics import median_tensor, summarise
from .predictions import Predictions

PARTS = ("test", "validation", "train")


def errors_of_parts(predictions: Predictions, systems: Mapping[str, str]) -> dict[str, Any]:
    """Errors of predictions on each part, and of the median of the training tensors on the test part.

    Args:
        predictions: for all parts of a split.
        systems: the crystal system of each crystal by its id.

    Returns:
        "errors": for each target and part what `summarise` gives; "median_model": the same for each target.
    """
    errors: dict[str, Any] = {target: {} for target in predictions.expected}
    medians: dict[str, Any] = {}
    by_part = {part: predictions.of_part(part) for part in PARTS}
    for target in predictions.expected:
        for part, those in by_part.items():
            groups = [systems[id] for id in those.ids]
            errors[target][part] = summarise(those.predicted[target], those.expected[target], groups)
        test = by_part["test"]
        median = median_tensor(by_part["train"].expected[target])
        trivial = np.broadcast_to(median, test.expected[target].shape)
        medians[target] = summarise(trivial, test.expected[target], [systems[id] for id in test.ids])
    return {"errors": errors, "median_model": medians}

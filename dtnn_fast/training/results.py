# SPDX-License-Identifier: MIT
"""The errors of a run on each part of its split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BadFileError
from ..files import read_json_object
from .metrics import median_tensor, summarise
from .predictions import Predictions
from .run_folder import RESULTS_FILE

PARTS = ("test", "validation", "train")


def read_results(run: Path) -> dict[str, Any]:
    """Read results.json of a finished run of ours.

    Returns:
        What it holds; "members" is there for a single model too.

    Raises:
        BadFileError: the file is missing or damaged.
    """
    path = run / RESULTS_FILE
    results = {"members": 1, **read_json_object(path)}
    seconds, parameters, members = (results.get(name) for name in ("train_seconds", "parameters", "members"))
    if not isinstance(seconds, int | float) or not isinstance(parameters, dict):
        raise BadFileError(f"{path}: expected a number `train_seconds` and an object `parameters`, or it is damaged")
    if not isinstance(members, int) or members < 1:
        raise BadFileError(f"{path}: expected `members` of 1 or more, got {members!r}")
    return results


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

# SPDX-License-Identifier: MIT
"""Mean and standard deviation of the test errors over several splits."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from .metrics import METRICS


def over_splits(results: Mapping[int, Mapping[str, Any]]) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Summarise what `train_run` returned for several seeds.

    Args:
        results: of each run, by seed.

    Returns:
        For "dtnn" and "median_model", for each target, for each of `METRICS`: "mean" and "std", the standard deviation
        of the sample (0 for a single run), of the errors on all test crystals.
    """
    runs = list(results.values())
    targets = list(runs[0]["errors"])
    errors = {
        "dtnn": {t: [run["errors"][t]["test"]["all"] for run in runs] for t in targets},
        "median_model": {t: [run["median_model"][t]["all"] for run in runs] for t in targets},
    }
    return {
        model: {
            target: {metric: _mean_and_std([row[metric] for row in rows]) for metric in METRICS}
            for target, rows in by_target.items()
        }
        for model, by_target in errors.items()
    }


def _mean_and_std(values: list[float]) -> dict[str, float]:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.fmean(values), "std": spread}

# SPDX-License-Identifier: MIT
"""The training loss, and the four errors of arXiv 2405.09052 (Eq. 3 to 6) for each crystal and as means."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..nn.symmetric_tensors import UNIQUE_COLUMNS, UNIQUE_ROWS

METRICS = ("mae_ten", "mae_mean_diag", "mae_diag", "mae_off_diag")


def unique_elements(tensors: Tensor) -> Tensor:
    """Select the six unique elements. [..., 3, 3] -> [..., 6]."""
    # Single elements, not lists of indices, whose copy to a GPU would wait for it.
    return torch.stack([tensors[..., i, j] for i, j in zip(UNIQUE_ROWS, UNIQUE_COLUMNS, strict=True)], dim=-1)


def mae_ten(predicted: Tensor, expected: Tensor) -> Tensor:
    """Compute the mean absolute error over the six unique elements and the crystals (Eq. 3), which is also the loss.

    Args:
        predicted: [B, 3, 3], or [members, B, 3, 3] for the mean error of several models.
        expected: [B, 3, 3].

    Returns:
        A scalar.
    """
    return (unique_elements(predicted) - unique_elements(expected)).abs().mean()


def crystal_errors(predicted: np.ndarray, expected: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the four errors of each crystal.

    MAE_ten: over the six unique elements (Eq. 3).  MAE_mean-diag: of the mean of the diagonal (Eq. 4).
    MAE_diag: over the diagonal (Eq. 5).  MAE_off-diag: over the three off-diagonals (Eq. 6).

    Args:
        predicted: [B, 3, 3].
        expected: [B, 3, 3].

    Returns:
        [B] for each name of `METRICS`.
    """
    difference = (np.asarray(predicted) - np.asarray(expected))[:, UNIQUE_ROWS, UNIQUE_COLUMNS]
    absolute = np.abs(difference)
    return {
        "mae_ten": absolute.mean(1),
        "mae_mean_diag": np.abs(difference[:, :3].mean(1)),
        "mae_diag": absolute[:, :3].mean(1),
        "mae_off_diag": absolute[:, 3:].mean(1),
    }


def summarise(predicted: np.ndarray, expected: np.ndarray, systems: Sequence[str]) -> dict[str, dict[str, float]]:
    """Average the errors over all crystals and over each crystal system, with counts and the median of MAE_ten.

    Args:
        predicted: [B, 3, 3].
        expected: [B, 3, 3].
        systems: the crystal system of each crystal. [B].

    Returns:
        For "all" and each crystal system that occurs: "count", the means of `METRICS`, and "median_ten".
    """
    errors = crystal_errors(predicted, expected)
    names = np.asarray(systems, dtype=object)
    groups = {"all": np.ones(len(names), dtype=bool)}
    groups |= {system: names == system for system in sorted(set(systems))}
    return {
        group: {
            "count": int(members.sum()),
            **{metric: float(errors[metric][members].mean()) for metric in METRICS},
            "median_ten": float(np.median(errors["mae_ten"][members])),
        }
        for group, members in groups.items()
        if members.any()
    }


# Means below this count as this in logarithms: an ionic mean can be zero.
_LEAST_MEAN = 0.1
# A mean above this is a high permittivity: the gate dielectrics HfO2 and ZrO2 have 20 to 25.
HIGH_PERMITTIVITY = 30.0
RANKING_METRICS = ("log_error", "spearman", "recall_top_tenth", "recall_high", "precision_high")


def ranking_quality(predicted: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    """Measure how well tensors are ranked by their means (a third of the trace); see `ranking_of_means`.

    Args:
        predicted: [B, 3, 3].
        expected: [B, 3, 3], at least two.
    """
    return ranking_of_means(
        *(np.trace(np.asarray(tensors), axis1=-2, axis2=-1) / 3.0 for tensors in (predicted, expected))
    )


def ranking_of_means(predicted: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    """Measure how well means are ranked, which a few huge tensors do not rule.

    Args:
        predicted: [B].
        expected: [B], at least two.

    Returns:
        "log_error": mean of |ln(predicted / expected)|, with means of at least 0.1. "spearman": rank correlation; NaN
        where all predictions, or all labels, are equal. "recall_top_tenth": part of the tenth with the largest labels
        (rounded, at least one) among as many with the largest predictions. "recall_high": part of the labels above
        `HIGH_PERMITTIVITY` whose prediction is above it too; NaN without any. "precision_high": part of the predictions
        above it whose label is above it too; NaN without any. "high": number of labels above it.
    """
    means = [np.asarray(predicted, dtype=np.float64), np.asarray(expected, dtype=np.float64)]
    logarithms = [np.log(np.maximum(mean, _LEAST_MEAN)) for mean in means]
    ranks = [_ranks(mean) for mean in means]
    constant = any(np.ptp(rank) == 0 for rank in ranks)
    top = max(1, round(len(means[0]) / 10))
    largest = [set(np.argsort(-mean, kind="stable")[:top].tolist()) for mean in means]
    predicted_high, high = (mean > HIGH_PERMITTIVITY for mean in means)
    found = float((predicted_high & high).sum())
    return {
        "log_error": float(np.abs(logarithms[0] - logarithms[1]).mean()),
        "spearman": float("nan") if constant else float(np.corrcoef(ranks[0], ranks[1])[0, 1]),
        "recall_top_tenth": len(largest[0] & largest[1]) / top,
        "recall_high": found / high.sum() if high.any() else float("nan"),
        "precision_high": found / predicted_high.sum() if predicted_high.any() else float("nan"),
        "high": float(high.sum()),
    }


def _ranks(values: np.ndarray) -> np.ndarray:
    """Rank values from 0; equal ones share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: np.ndarray = (np.cumsum(counts) - 0.5 * (counts + 1))[inverse]
    return ranks


def median_tensor(tensors: np.ndarray) -> np.ndarray:
    """Return the median of each element, which the trivial model predicts. [B, 3, 3] -> [3, 3]."""
    return np.median(tensors, axis=0)


def isotropic_scale(tensors: Tensor) -> tuple[float, float]:
    """Measure the typical size of tensors and their spread.

    Args:
        tensors: [B, 3, 3].

    Returns:
        The median of the tensors' mean diagonals, and their mean absolute deviation from it (at least 0.001).
    """
    means = tensors.diagonal(dim1=1, dim2=2).mean(1)
    offset = torch.median(means)
    return offset.item(), (means - offset).abs().mean().clamp(min=1e-3).item()


def over_splits(results: Mapping[int, Mapping[str, Any]]) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Average the test errors over the runs of several seeds.

    Args:
        results: what `train_run` returned, by seed.

    Returns:
        For "dtnn" and "median_model", for each target and each of `METRICS`: "mean" and "std" of the errors on all test
        crystals. "std" is the standard deviation of the sample, 0 for a single run.
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

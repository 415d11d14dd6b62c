# SPDX-License-Identifier: MIT
"""The picture of a screening."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from ..plotting import BLUE, OCHRE, RED, label_points, log_axis, mark_panels, picture, plain_numbers, subscripts
from .ranking import main_target
from .store import Predictions

_NEW, _LABELLED, _ACCENT = BLUE, OCHRE, RED
_FEWEST_KNOWN = 20


def plot_screening(
    path: Path, predictions: Predictions, order: np.ndarray, labelled: Collection[str], labels: int = 10
) -> None:
    """Draw a screening as a PNG: electronic against ionic, how values are spread, and known against predicted ones.

    Args:
        path: of the picture.
        predictions: at least one.
        order: row indices from the highest rank. [B].
        labelled: ids of crystals whose tensors were known before.
        labels: how many of the first get their formula.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    target = main_target(predictions.targets)
    known, predicted = _known_means(predictions, target), _means(predictions, target)
    # The axes of this panel are logarithmic.
    both = np.isfinite(known) & (known > 0.0) & (predicted > 0.0)
    with_parity = int(both.sum()) >= _FEWEST_KNOWN
    with picture(path, width=12.4 if with_parity else 8.8, height=3.9) as figure:
        axes = figure.subplots(1, 3 if with_parity else 2, width_ratios=[1.35, 0.95, 1] if with_parity else [1.25, 1])
        points = _draw_map(figure, axes[0], predictions, order[:labels], target)
        _draw_histogram(axes[1], predictions, target, np.array([id in labelled for id in predictions.ids]))
        if with_parity:
            _draw_parity(axes[2], known[both], predicted[both], target)
        mark_panels(axes)
        label_points(figure, axes[0], points)


def _means(predictions: Predictions, target: str) -> np.ndarray:
    means: np.ndarray = np.trace(predictions.tensors[target], axis1=1, axis2=2) / 3.0
    return means


def _known_means(predictions: Predictions, target: str) -> np.ndarray:
    means: np.ndarray = np.trace(predictions.known[target], axis1=1, axis2=2) / 3.0
    return means


def _draw_map(
    figure: Any, axis: Any, predictions: Predictions, first: np.ndarray, target: str
) -> list[tuple[float, float, str]]:
    """Electronic against ionic, coloured by anisotropy; with one target, its mean against its anisotropy.

    Returns:
        Places and formulas of the first crystals.
    """
    principal = np.linalg.eigvalsh(predictions.tensors[target])
    anisotropy = principal[:, 2] - principal[:, 0]
    if {"electronic", "ionic"} <= set(predictions.targets):
        x, y = _means(predictions, "electronic"), _means(predictions, "ionic")
        axis.set(xlabel=r"mean electronic permittivity $\varepsilon_\infty$")
        axis.set(ylabel=r"mean ionic permittivity $\varepsilon_{ion}$")
    else:
        x, y = _means(predictions, target), anisotropy
        axis.set(xlabel=f"mean {target} permittivity", ylabel=r"anisotropy $\varepsilon_3-\varepsilon_1$")
    # The most anisotropic on top; the colours end where a few extreme crystals would wash out the rest.
    above = np.argsort(anisotropy)
    end = max(float(np.quantile(anisotropy, 0.98)), 0.1)
    points = axis.scatter(
        x[above], y[above], c=anisotropy[above], s=11, cmap="viridis", vmin=0.0, vmax=end, linewidths=0, alpha=0.85
    )
    if x.min() > 0.0 and x.max() > 5.0 * x.min():
        log_axis(axis.set_xscale, axis.xaxis, x)
    if y.min() > 0.0 and y.max() > 5.0 * y.min():
        log_axis(axis.set_yscale, axis.yaxis, y)
    elif y.min() <= 0.0 < y.max():
        axis.set_yscale("symlog", linthresh=max(1.0, float(np.median(np.abs(y)))))
        axis.yaxis.set_major_formatter(plain_numbers())
    axis.margins(0.06)
    extend = "max" if anisotropy.max() > end else "neither"
    bar = figure.colorbar(points, ax=axis, pad=0.015, extend=extend)
    bar.set_label(rf"anisotropy of the {target} tensor $\varepsilon_3-\varepsilon_1$")
    bar.outline.set_linewidth(0.5)
    axis.scatter(x[first], y[first], s=34, facecolors="none", edgecolors=_ACCENT, linewidths=0.9)
    return [(x[row], y[row], subscripts(predictions.formulas[row])) for row in first.tolist()]


def _draw_histogram(axis: Any, predictions: Predictions, target: str, labelled: np.ndarray) -> None:
    means = _means(predictions, target)
    positive = means.min() > 0.0 and means.max() > 2.0 * means.min()
    # Values that are nearly the same still get bins of a sensible width.
    low, high = min(means.min(), np.median(means) - 1.0), max(means.max(), np.median(means) + 1.0)
    bins = np.geomspace(means.min(), means.max(), 45) if positive else np.linspace(low, high, 45)
    groups = [(means[~labelled], _NEW, "not labelled"), (means[labelled], _LABELLED, "labelled")]
    shown = [group for group in groups if len(group[0])]
    axis.hist(
        [values for values, _, _ in shown],
        bins=bins,
        stacked=True,
        color=[color for _, color, _ in shown],
        label=[f"{name} ({len(values):,})" for values, _, name in shown],
    )
    if positive:
        log_axis(axis.set_xscale, axis.xaxis, means)
    median = float(np.median(means))
    axis.axvline(median, ymax=0.74, color="0.3", linewidth=0.9, linestyle="--", label=f"median {median:.1f}")
    axis.set(xlabel=f"mean {target} permittivity", ylabel="crystals")
    # Room for the legend above the bars, wherever they are.
    axis.set_ylim(top=1.4 * axis.get_ylim()[1])
    axis.legend(loc="upper left", fontsize=8)


def _draw_parity(axis: Any, x: np.ndarray, y: np.ndarray, target: str) -> None:
    low, high = 0.9 * min(x.min(), y.min()), 1.1 * max(x.max(), y.max())
    axis.plot([low, high], [low, high], color="0.3", linewidth=0.9)
    axis.scatter(x, y, s=9, color=_LABELLED, alpha=0.7, linewidths=0)
    log_axis(axis.set_xscale, axis.xaxis, x)
    log_axis(axis.set_yscale, axis.yaxis, y)
    axis.set(xlim=(low, high), ylim=(low, high))
    axis.set(xlabel=f"mean {target} permittivity, DFPT", ylabel="predicted")
    text = f"{len(x):,} labelled crystals,\nthose of training included\nMAE {np.abs(x - y).mean():.2f}"
    axis.text(0.04, 0.96, text, transform=axis.transAxes, va="top", fontsize=8)

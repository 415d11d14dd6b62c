# SPDX-License-Identifier: MIT
"""Figure of a screening: a map of all predictions, their distribution, and predicted against published values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..plotting import BLUE, OCHRE, RED, label_points, log_axis, mark_panels, picture, plain_numbers, subscripts
from .ranking import Ranking, main_target
from .store import PUBLISHED_MEAN

_UNLABELLED, _LABELLED, _HIGHLIGHT = BLUE, OCHRE, RED
# The panel of published values is drawn from this number of them on.
_MIN_PUBLISHED = 20
# More points than these hide each other.
_MOST_POINTS = 50_000


def plot_screening(path: Path, ranking: Ranking, num_names: int = 10) -> None:
    """Draw a screening as a PNG.

    Panel a shows the ionic against the electronic permittivity, b the distribution of the mean permittivity, and c the
    predicted against the published values, where there are at least 20 of them.

    Args:
        path: path of the picture.
        ranking: of at least one crystal; of very many, a random sample is drawn.
        num_names: number of first ranks that are marked with their formula.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    target = main_target(ranking.targets)
    columns, first = ranking.points(_MOST_POINTS, num_names)
    predicted = columns[f"{target}_mean"]
    published = columns.get(f"{target}_{PUBLISHED_MEAN}", np.full(len(predicted), np.nan))
    # The axes of panel c are logarithmic.
    comparable = np.isfinite(published) & (published > 0.0) & (predicted > 0.0)
    with_parity = int(comparable.sum()) >= _MIN_PUBLISHED
    with picture(path, width=12.4 if with_parity else 8.8, height=3.9) as figure:
        axes = figure.subplots(1, 3 if with_parity else 2, width_ratios=[1.35, 0.95, 1] if with_parity else [1.25, 1])
        names = _draw_map(figure, axes[0], columns, first, target)
        _draw_histogram(axes[1], predicted, columns["labelled"], target)
        if with_parity:
            _draw_parity(axes[2], published[comparable], predicted[comparable], target)
        mark_panels(axes)
        label_points(figure, axes[0], names, others=axes[0].collections[0].get_offsets())


def _draw_map(
    figure: Any, axis: Any, columns: Mapping[str, np.ndarray], first_rows: np.ndarray, target: str
) -> list[tuple[float, float, str]]:
    """Draw the ionic against the electronic permittivity, coloured by anisotropy; or the anisotropy against the mean.

    Returns:
        Places and formulas of the first crystals.
    """
    anisotropy = columns[f"{target}_anisotropy"]
    if {"electronic_mean", "ionic_mean"} <= columns.keys():
        x, y = columns["electronic_mean"], columns["ionic_mean"]
        axis.set(xlabel=r"mean electronic permittivity $\varepsilon_\infty$")
        axis.set(ylabel=r"mean ionic permittivity $\varepsilon_{ion}$")
    else:
        x, y = columns[f"{target}_mean"], anisotropy
        axis.set(xlabel=f"mean {target} permittivity", ylabel=r"anisotropy $\varepsilon_3-\varepsilon_1$")
    # The most anisotropic crystals on top; the colour scale ends before a few extremes would wash out the rest.
    rows = np.argsort(anisotropy)
    end = max(float(np.quantile(anisotropy, 0.98)), 0.1)
    points = axis.scatter(
        x[rows], y[rows], c=anisotropy[rows], s=11, cmap="viridis", vmin=0.0, vmax=end, linewidths=0, alpha=0.85
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
    axis.scatter(x[first_rows], y[first_rows], s=34, facecolors="none", edgecolors=_HIGHLIGHT, linewidths=0.9)
    return [(x[row], y[row], subscripts(columns["formula"][row])) for row in first_rows.tolist()]


def _draw_histogram(axis: Any, means: np.ndarray, is_labelled: np.ndarray, target: str) -> None:
    logarithmic = means.min() > 0.0 and means.max() > 2.0 * means.min()
    # Nearly equal values still get bins of a sensible width.
    low, high = min(means.min(), np.median(means) - 1.0), max(means.max(), np.median(means) + 1.0)
    bins = np.geomspace(means.min(), means.max(), 45) if logarithmic else np.linspace(low, high, 45)
    groups = [(means[~is_labelled], _UNLABELLED, "not labelled"), (means[is_labelled], _LABELLED, "labelled")]
    nonempty = [group for group in groups if len(group[0])]
    axis.hist(
        [values for values, _, _ in nonempty],
        bins=bins,
        stacked=True,
        color=[color for _, color, _ in nonempty],
        label=[f"{name} ({len(values):,})" for values, _, name in nonempty],
    )
    if logarithmic:
        log_axis(axis.set_xscale, axis.xaxis, means)
    median = float(np.median(means))
    axis.axvline(median, ymax=0.74, color="0.3", linewidth=0.9, linestyle="--", label=f"median {median:.1f}")
    axis.set(xlabel=f"mean {target} permittivity", ylabel="number of crystals")
    # Room for the legend above the bars, wherever they are.
    axis.set_ylim(top=1.4 * axis.get_ylim()[1])
    axis.legend(loc="upper left", fontsize=8)


def _draw_parity(axis: Any, published: np.ndarray, predicted: np.ndarray, target: str) -> None:
    low, high = 0.9 * min(published.min(), predicted.min()), 1.1 * max(published.max(), predicted.max())
    axis.plot([low, high], [low, high], color="0.3", linewidth=0.9)
    axis.scatter(published, predicted, s=9, color=_LABELLED, alpha=0.7, linewidths=0)
    log_axis(axis.set_xscale, axis.xaxis, published)
    log_axis(axis.set_yscale, axis.yaxis, predicted)
    axis.set(xlim=(low, high), ylim=(low, high))
    axis.set(xlabel=f"mean {target} permittivity, DFPT", ylabel="predicted")
    error = np.abs(predicted - published).mean()
    text = f"{len(published):,} labelled crystals,\ntraining crystals included\nMAE {error:.2f}"
    axis.text(0.04, 0.96, text, transform=axis.transAxes, va="top", fontsize=8)

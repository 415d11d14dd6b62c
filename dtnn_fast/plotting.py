# SPDX-License-Identifier: MIT
"""Shared parts of all figures: style, axes, and labels beside points. Matplotlib is imported when first used."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .errors import optional_import

STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "legend.frameon": False,
    "mathtext.default": "regular",
}
BLUE, OCHRE, RED, GREEN, GREY = "#2a6f97", "#e09f3e", "#9e2a2b", "#588157", "#6c757d"


@contextmanager
def picture(path: Path, width: float, height: float) -> Iterator[Any]:
    """Yield a figure, which is saved when the block ends.

    Args:
        path: the PNG to write.
        width: in inches.
        height: in inches.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    matplotlib = _import("matplotlib", path)
    figure_class = _import("matplotlib.figure", path).Figure
    canvas_class = _import("matplotlib.backends.backend_agg", path).FigureCanvasAgg
    with matplotlib.rc_context(STYLE):
        figure = figure_class(figsize=(width, height), layout="constrained", dpi=200)
        canvas_class(figure)
        yield figure
        figure.savefig(path)


def _import(module: str, path: Path | None = None) -> Any:
    return optional_import(module, extra="cli", purpose=f"draw {path.name if path else 'pictures'}")


def mark_panels(axes: Sequence[Any]) -> None:
    """Write the letters a, b, ... at the top left of the panels."""
    for axis, letter in zip(axes, "abcdefgh", strict=False):
        axis.set_title(letter, loc="left", fontweight="bold")


def plain_numbers() -> Any:
    """Return a tick formatter that writes 1000 and 0.1 instead of powers of ten."""
    return _import("matplotlib.ticker").FuncFormatter(lambda value, _: f"{value:g}")


def log_axis(set_scale: Any, axis: Any, values: np.ndarray) -> None:
    """Make an axis logarithmic, with ticks such as 2, 5, 10, 20 as plain numbers."""
    ticker = _import("matplotlib.ticker")
    set_scale("log")
    axis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0) if values.max() < 300.0 * values.min() else (1.0,)))
    axis.set_major_formatter(plain_numbers())
    axis.set_minor_formatter(ticker.NullFormatter())


# Offsets of a label from its point, near ones first; the first free one is taken. In points (1/72 inch)
# A label rather hides another point than to be farther from its own by this, in points (1/72 inch).
_POINTS_WORTH_HIDING = 8.0
_LABEL_OFFSETS = [
    (side * distance * math.cos(angle), distance * math.sin(angle))
    for distance in (8, 16, 26, 38, 52, 70, 90)
    for angle in (0.15, 0.4, -0.4, 0.7, 1.0, -1.0, 1.4, -1.4)
    for side in (1, -1)
]


def label_points(
    figure: Any,
    axis: Any,
    points: Sequence[tuple[float, float, str]],
    size: float = 8.0,
    color: str = RED,
    others: np.ndarray | None = None,
) -> None:
    """Write labels beside points so that none overlaps; a label without a free place is left out.

    A label goes where it hides few other points, and near to its own.

    Args:
        figure: complete except for the labels, because every panel moves the others.
        axis: the axis with the points.
        points: x, y and label of each point, the most important first.
        size: font size, and size of the space that is kept free around each point. In points (1/72 inch)
        color: color of the labels.
        others: x and y of points that may be hidden. [M, 2]
    """
    effects = _import("matplotlib.patheffects")
    outline = effects.withStroke(linewidth=2.5, foreground="white")
    figure.draw_without_rendering()
    pixels = figure.dpi / 72.0
    frame = axis.get_window_extent().extents
    centers = np.array([axis.transData.transform((x, y)) for x, y, _ in points])
    hidden = np.empty((0, 2)) if others is None else axis.transData.transform(others)
    # Occupied boxes: left, bottom, right, top in pixels.
    taken = [np.array([x, y, x, y]) + 0.5 * size * pixels * np.array([-1, -1, 1, 1]) for x, y in centers]
    for (x, y, text), center in zip(points, centers, strict=True):
        width, height = _text_size(figure, text, size)
        occupied = np.array(taken)
        best = None
        for dx, dy in _LABEL_OFFSETS:
            edge, middle = center + pixels * np.array([dx, dy])
            left = edge if dx > 0 else edge - width
            half = height / 2 + 1.5
            box = np.array([left - 1.5, middle - half, left + width + 1.5, middle + half])
            inside = (box[:2] >= frame[:2]).all() and (box[2:] <= frame[2:]).all()
            if not inside or ((box[:2] < occupied[:, 2:]) & (occupied[:, :2] < box[2:])).all(1).any():
                continue
            num_hidden = int(((box[:2] < hidden) & (hidden < box[2:])).all(1).sum())
            cost = num_hidden + math.hypot(dx, dy) / _POINTS_WORTH_HIDING
            if best is None or cost < best[0]:
                best = cost, box, (dx, dy)
        if best is None:
            continue
        _, box, offset = best
        taken.append(box)
        axis.annotate(
            text,
            (x, y),
            offset,
            textcoords="offset points",
            ha="left" if offset[0] > 0 else "right",
            va="center",
            fontsize=size,
            color=color,
            path_effects=[outline],
            arrowprops={"arrowstyle": "-", "lw": 0.5, "color": color, "shrinkA": 0, "shrinkB": 4},
        )


def _text_size(figure: Any, text: str, size: float) -> tuple[float, float]:
    """Measure the width and height of a text in pixels."""
    drawn = figure.text(0, 0, text, fontsize=size)
    extent = drawn.get_window_extent()
    drawn.remove()
    return extent.width, extent.height


def subscripts(formula: str) -> str:
    """Write the numbers of a chemical formula as subscripts."""
    return re.sub(r"(\d+)", r"$_{\1}$", formula)

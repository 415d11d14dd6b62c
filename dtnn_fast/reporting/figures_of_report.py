# SPDX-License-Identifier: MIT
"""Figures of a report as data and layout of plotly.js.

Colours are names of the page's palette, such as ``"--training"`` or ``"--training/0.3"`` with an opacity: the page
puts in the colour of the light or dark theme. Texts that come from files are escaped, because plotly.js reads tags.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .density import Grid, enclosed_fractions

AXIS_NAMES = {
    "electronic": "electronic permittivity ε<sub>∞</sub>, mean",
    "ionic": "ionic permittivity ε<sub>ion</sub>, mean",
    "total": "total permittivity ε<sub>0</sub>, mean",
}
# Densities of fewer points than this say little: they are drawn as points.
FEWEST_FOR_CONTOURS = 30
# Contours enclose 10, 30, 50, 70 and 90 % of the crystals.
_CONTOURS = {"start": 0.1, "end": 0.9, "size": 0.2}
_TICKS = [float(f"{digit}e{power}") for power in range(-3, 6) for digit in (1, 2, 5)]


def density_figure(
    target: str,
    grid: Grid,
    counts: Mapping[str, np.ndarray],
    points: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    without_gap: np.ndarray,
) -> dict[str, Any]:
    """Draw the densities of training crystals and candidates over band gap and permittivity, as Fig. 6a-b of the paper.

    A strip below shows the permittivities of candidates whose band gap is unknown.

    Args:
        target: "electronic", "ionic" or "total".
        grid: cells of the counts.
        counts: number of crystals by cell, of "training" and "candidates". [rows, columns] each.
        points: permittivities and gaps of those that are too few for a density; may be empty.
        without_gap: number of candidates without a gap by column of the grid. [columns].

    Returns:
        `data` and `layout` of plotly.js.
    """
    x, y = rounded(grid.permittivities), rounded(grid.gaps)
    traces: list[dict[str, Any]] = []
    for name, label in (("training", "training crystals, DFPT"), ("candidates", "candidates, predicted")):
        total = int(counts[name].sum())
        if name in points:
            xs, ys = points[name]
            marker = {"color": f"--{name}", "size": 6, "opacity": 0.8}
            traces.append({"type": "scatter", "mode": "markers", "x": list(xs), "y": list(ys), "marker": marker})
        elif total:
            filled = name == "training"
            # The lowest cells reach down to gap 0, and so do the contours.
            levels = 1.0 - enclosed_fractions(counts[name])
            levels = np.concatenate([levels[:1], levels])
            traces.append(
                {
                    "type": "contour",
                    "x": x,
                    "y": [0.0, *y],
                    # Larger inside, since plotly.js paints a contour over those of smaller values.
                    "z": [rounded(row, 3) for row in levels],
                    "autocontour": False,
                    "contours": {**_CONTOURS, "coloring": "fill" if filled else "none"},
                    # Opacities add up from the outermost contour to the innermost.
                    "colorscale": [
                        [0, f"--{name}/0"],
                        [0.099, f"--{name}/0"],
                        [0.1, f"--{name}/0.17"],
                        [1, f"--{name}/0.17"],
                    ],
                    "zmin": 0.0,
                    "zmax": 1.0,
                    "line": {"color": f"--{name}", "width": 0.6 if filled else 1.6},
                    "showscale": False,
                    "hovertemplate": f"{label}<br>ε %{{x:.3g}}, gap %{{y:.2f}} eV<br>"
                    "%{z:.0%} of them lie where there are fewer<extra></extra>",
                }
            )
        else:
            continue
        traces[-1] |= {"name": f"{label} ({total:,})", "showlegend": True, "yaxis": "y"}
    has_strip = bool(without_gap.sum())
    if has_strip:
        traces.append(
            {
                "type": "bar",
                "x": x,
                "y": without_gap.tolist(),
                "yaxis": "y2",
                "marker": {"color": "--candidates", "opacity": 0.55, "line": {"width": 0}},
                "width": rounded(np.diff(10.0 ** np.linspace(grid.low, grid.high, grid.columns + 1))),
                "name": f"candidates without a known gap ({int(without_gap.sum()):,})",
                "hovertemplate": "no known gap<br>ε about %{x:.3g}: %{y:,} candidates<extra></extra>",
            }
        )
    layout: dict[str, Any] = {
        "xaxis": {
            **log_axis(AXIS_NAMES[target], 10.0**grid.low, 10.0**grid.high),
            "anchor": "y2" if has_strip else "y",
        },
        "yaxis": {
            "title": {"text": "band gap (eV)"},
            "range": [0.0, grid.top],
            "domain": [0.27, 1.0] if has_strip else [0.0, 1.0],
            "showline": True,
        },
        "legend": _LEGEND_ABOVE,
        "hovermode": "closest",
    }
    if has_strip:
        layout["yaxis2"] = {
            "domain": [0.0, 0.17],
            "title": {"text": ""},
            "rangemode": "tozero",
            "nticks": 3,
            "fixedrange": True,
        }
        layout["annotations"] = [_strip_label(0.17)]
    return {"data": traces, "layout": layout}


def merit_figure(
    rows: Sequence[Mapping[str, Any]],
    front: Sequence[Mapping[str, Any]],
    target: str,
    without_gap: Sequence[float],
) -> dict[str, Any]:
    """Draw the band gap against the permittivity, coloured by their product, with the Pareto front: Fig. 6d.

    Args:
        rows: crystals with id, formula, eps, band_gap, figure_of_merit and rank (or None).
        front: the Pareto front, from the largest permittivity; the same keys.
        target: whose permittivity it is.
        without_gap: permittivities of crystals without a known gap, drawn below the gap of zero.

    Returns:
        `data` and `layout` of plotly.js. Points have their id in `customdata`.
    """
    merits = np.array([row["figure_of_merit"] for row in rows], dtype=float)
    end = max(float(np.quantile(merits, 0.98)), 1.0) if len(merits) else 1.0
    traces: list[dict[str, Any]] = []
    permittivities = [row["eps"] for row in rows] + list(without_gap)
    low = max(min(permittivities, default=1.0) / 1.1, 1e-3)
    high = max(permittivities, default=10.0) * 1.15
    top = max((row["band_gap"] for row in rows), default=1.0) * 1.08 or 1.0
    for merit in _iso_merits(end):
        xs = np.geomspace(max(low, merit / top), high, 40)
        if merit / top < high:
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines+text",
                    "x": rounded(xs),
                    "y": rounded(merit / xs),
                    "text": [f"{merit:g} eV"] + [""] * (len(xs) - 1),
                    "textposition": "bottom right",
                    "textfont": {"color": "--muted", "size": 11},
                    "line": {"color": "--muted/0.45", "width": 1, "dash": "dot"},
                    "hoverinfo": "skip",
                    "showlegend": False,
                    "cliponaxis": True,
                }
            )
    # The best on top.
    ordered = sorted(rows, key=lambda row: row["figure_of_merit"])
    traces.append(
        {
            "type": "scatter",
            "mode": "markers",
            "name": "crystals",
            "x": rounded([row["eps"] for row in ordered]),
            "y": rounded([row["band_gap"] for row in ordered]),
            "text": [_hover_text(row) for row in ordered],
            "customdata": [row["id"] for row in ordered],
            "marker": {
                "color": rounded([row["figure_of_merit"] for row in ordered]),
                "cmin": 0.0,
                "cmax": end,
                **marks_of_ranks(ordered),
                "colorbar": color_bar("gap \u00d7 ε (eV)"),
            },
            "hovertemplate": "%{text}<extra></extra>",
            "showlegend": False,
        }
    )
    traces.append(
        {
            "type": "scatter",
            "mode": "lines",
            "name": f"Pareto front ({len(front):,} crystals)",
            "x": rounded([row["eps"] for row in front]),
            "y": rounded([row["band_gap"] for row in front]),
            "line": {"color": "--accent", "width": 2, "shape": "vh"},
            "hoverinfo": "skip",
        }
    )
    has_strip = len(without_gap) > 0
    if has_strip:
        # Ticks of a rug: one for each crystal of the sample.
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "gap unknown",
                "x": rounded(without_gap),
                "y": [0.0] * len(without_gap),
                "yaxis": "y2",
                "marker": {"symbol": "line-ns-open", "size": 16, "color": "--muted/0.35", "line": {"width": 1}},
                "hovertemplate": "gap unknown, ε %{x:.3g}<extra></extra>",
                "showlegend": False,
            }
        )
    layout: dict[str, Any] = {
        "xaxis": {**log_axis(AXIS_NAMES[target], low, high), "anchor": "y2" if has_strip else "y"},
        "yaxis": {
            "title": {"text": "band gap (eV)"},
            "range": [0.0, top],
            "domain": [0.17, 1.0] if has_strip else [0.0, 1.0],
        },
        "legend": _LEGEND_ABOVE,
        "hovermode": "closest",
    }
    if has_strip:
        layout["yaxis2"] = {
            "domain": [0.0, 0.09],
            "range": [-1, 1],
            "showticklabels": False,
            "ticklen": 0,
            "showgrid": False,
            "title": {"text": ""},
            "fixedrange": True,
        }
        layout["annotations"] = [_strip_label(0.09)]
    return {"data": traces, "layout": layout}


_LEGEND_ABOVE = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "xanchor": "left"}


def _strip_label(top: float) -> dict[str, Any]:
    """Write what a strip below the main panel shows, above its left end; `top` is a fraction of the height."""
    font = {"color": "--muted", "size": 11.5}
    place = {"xref": "paper", "yref": "paper", "x": 0, "y": top, "xanchor": "left", "yanchor": "bottom"}
    return {"text": "without a known gap", "font": font, **place}


def marks_of_ranks(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Make points that are larger and outlined for the first ranks, in the colours of merits."""
    is_first = [row["rank"] is not None for row in rows]
    return {
        "colorscale": [[k / 3, f"--merit{k + 1}"] for k in range(4)],
        "size": [9 if first else 5 for first in is_first],
        "line": {"color": "--surface", "width": [0.8 if first else 0 for first in is_first]},
    }


def color_bar(title: str) -> dict[str, Any]:
    """Make a thin colour bar with a title beside it."""
    return {"title": {"text": title, "side": "right"}, "thickness": 10, "outlinewidth": 0}


def log_axis(title: str, low: float, high: float) -> dict[str, Any]:
    """Make a logarithmic axis with ticks such as 2, 5, 10, fewer where it covers many decades."""
    wide = high > 3000.0 * low
    ticks = [tick for tick in _TICKS if low <= tick <= high and (not wide or math.log10(tick).is_integer())]
    return {
        "type": "log",
        "title": {"text": title},
        "range": [math.log10(low), math.log10(high)],
        "tickvals": ticks,
        "ticktext": [f"{tick:g}" for tick in ticks],
    }


def _iso_merits(largest: float) -> list[float]:
    """Choose some figures of merit for lines: round numbers, each about twice the one before."""
    rounds = [digit * 10.0**power for power in range(-1, 5) for digit in (1, 2, 5)]
    return [merit for merit in rounds if largest / 12 <= merit <= largest * 1.5]


def _hover_text(row: Mapping[str, Any]) -> str:
    rank = "" if row["rank"] is None else f"rank {row['rank']:,}<br>"
    return (
        f"<b>{html.escape(str(row['formula']))}</b>  {html.escape(str(row['id']))}<br>{rank}"
        f"ε {row['eps']:.1f} · gap {row['band_gap']:.2f} eV · product {row['figure_of_merit']:.0f} eV"
    )


def rounded(values: Any, digits: int = 5) -> list[float]:
    """Return numbers with few digits, which keep a page small."""
    return [float(f"{value:.{digits}g}") for value in np.asarray(values, dtype=float).tolist()]

# SPDX-License-Identifier: MIT
"""Figure of the permittivities of a screening without band gaps, as data and layout of plotly.js."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .figures_of_report import AXIS_NAMES, color_bar, log_axis, marks_of_ranks, rounded

# Ionic parts below this, such as the zero of silicon, are drawn at it.
_LOWEST = 0.1


def permittivity_figure(rows: Sequence[Mapping[str, Any]], main_target: str) -> dict[str, Any]:
    """Draw the ionic against the electronic permittivity, coloured by their sum.

    Args:
        rows: at least one crystal, with id, formula, eps (the mean of the main tensor), x (mean of the electronic
            tensor), y (mean of the ionic tensor) and rank (or None).
        main_target: the tensor of eps.

    Returns:
        `data` and `layout` of plotly.js. Points have their id in `customdata`.
    """
    ordered = sorted(rows, key=lambda row: row["eps"])
    x = np.array([row["x"] for row in ordered], dtype=float)
    y = np.maximum([row["y"] for row in ordered], _LOWEST)
    values = np.array([row["eps"] for row in ordered], dtype=float)
    trace = {
        "type": "scatter",
        "mode": "markers",
        "name": "crystals",
        "x": rounded(x),
        "y": rounded(y),
        "text": [_hover_text(row) for row in ordered],
        "customdata": [row["id"] for row in ordered],
        "marker": {
            "color": rounded(np.log10(values)),
            **marks_of_ranks(ordered),
            "colorbar": color_bar(f"{main_target} permittivity, mean") | _ticks_of_colors(values),
        },
        "hovertemplate": "%{text}<extra></extra>",
        "showlegend": False,
    }
    layout = {
        "xaxis": log_axis(AXIS_NAMES["electronic"], x.min() / 1.1, x.max() * 1.1),
        "yaxis": log_axis(AXIS_NAMES["ionic"], y.min() / 1.2, y.max() * 1.2),
        "hovermode": "closest",
    }
    return {"data": [trace], "layout": layout}


def _ticks_of_colors(values: np.ndarray) -> dict[str, Any]:
    axis = log_axis("", values.min() / 1.001, values.max() * 1.001)
    return {"tickvals": rounded(np.log10(axis["tickvals"])), "ticktext": axis["ticktext"]}


def _hover_text(row: Mapping[str, Any]) -> str:
    rank = "" if row["rank"] is None else f"rank {row['rank']:,}<br>"
    return (
        f"<b>{html.escape(str(row['formula']))}</b>  {html.escape(str(row['id']))}<br>{rank}"
        f"electronic {row['x']:.1f} · ionic {row['y']:.1f}"
    )

# SPDX-License-Identifier: MIT
"""The error per element against the number of crystals with it (Fig. 5b of arXiv 2405.09052)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..crystals.elements import symbol
from ..plotting import BLUE, label_points, log_axis, mark_panels, picture
from .csv_files import write_csv
from .elements import ElementError
from .models import Model


def draw_elements(path: Path, errors: Sequence[tuple[Model, Sequence[ElementError]]]) -> None:
    """Draw a panel for each target, and write the numbers.

    Args:
        path: of the picture; the CSV file has the same stem.
        errors: for each target the model that is shown, and what `element_errors` found.
    """
    with picture(path, width=4.2 * len(errors) + 0.3, height=3.6) as figure:
        axes = figure.subplots(1, len(errors), squeeze=False)[0]
        for axis, (model, elements) in zip(axes, errors, strict=True):
            counts = np.array([element.crystals for element in elements])
            values = np.array([element.mae_ten for element in elements])
            axis.scatter(counts, values, s=12, color=BLUE, linewidths=0, alpha=0.85)
            log_axis(axis.set_xscale, axis.xaxis, counts)
            axis.set(xlabel="crystals with the element", ylabel=f"{model.target}: mean MAE_ten")
            log_axis(axis.set_yscale, axis.yaxis, values)
            axis.margins(0.08)
            axis.set_title(model.name, fontsize=8, loc="right")
        mark_panels(axes)
        for axis, (_, elements) in zip(axes, errors, strict=True):
            # The worst and the most frequent ones are the most interesting.
            order = sorted(elements, key=lambda element: (-element.mae_ten, -element.crystals))
            points = [(e.crystals, e.mae_ten, symbol(e.atomic_number)) for e in order]
            label_points(figure, axis, points, size=5.5, color="0.25")
    header = ["target", "model", "element", "crystals", "tested", "mae_ten"]
    rows = [
        [model.target, model.name, symbol(e.atomic_number), e.crystals, e.tested, e.mae_ten]
        for model, elements in errors
        for e in elements
    ]
    write_csv(path.with_suffix(".csv"), header, rows)

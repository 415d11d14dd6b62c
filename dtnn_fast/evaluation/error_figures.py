# SPDX-License-Identifier: MIT
"""The four errors in each crystal system (Fig. 5c to 5e of arXiv 2405.09052)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..plotting import BLUE, GREEN, OCHRE, RED, mark_panels, picture
from ..training.metrics import METRICS
from .comparison import ModelErrors
from .csv_files import write_csv
from .tables import METRIC_NAMES, SYSTEMS

_COLORS = dict(zip(METRICS, (BLUE, OCHRE, RED, GREEN), strict=True))
_WIDTH = 0.2


def draw_systems(path: Path, models: Sequence[ModelErrors]) -> None:
    """Draw bars with the deviation over the splits, a panel for each target, and write the numbers.

    Args:
        path: of the picture; the CSV file has the same stem.
        models: for each target the model that is shown.
    """
    with picture(path, width=8.4, height=2.3 * len(models) + 0.5) as figure:
        axes = figure.subplots(len(models), 1, squeeze=False)[:, 0]
        for axis, model in zip(axes, models, strict=True):
            groups = [group for group in (*SYSTEMS, "all") if group in model.errors]
            places = np.arange(len(groups))
            for number, metric in enumerate(METRICS):
                spreads = [model.errors[group][metric] for group in groups]
                axis.bar(
                    places + (number - 1.5) * _WIDTH,
                    [spread.mean for spread in spreads],
                    _WIDTH,
                    yerr=[spread.std for spread in spreads],
                    color=_COLORS[metric],
                    error_kw={"elinewidth": 0.8, "capsize": 1.5, "ecolor": "0.3"},
                    label=METRIC_NAMES[metric],
                )
            names = [f"{group}\n{model.counts[group]:.1f}" for group in groups]
            axis.set_xticks(places, names)
            axis.tick_params(axis="x", length=0)
            axis.set(ylabel=f"{model.target}: error")
            axis.set_ylim(bottom=0.0)
            axis.set_title(model.name, fontsize=8, loc="right")
        axes[0].legend(ncols=4, fontsize=8, loc="upper center")
        axes[0].set_ylim(top=1.22 * axes[0].get_ylim()[1])
        axes[-1].set_xlabel("crystal system, and test crystals a split")
        mark_panels(axes)
    header = [
        "target",
        "model",
        "crystals",
        "tested_a_split",
        *(f"{m}_{what}" for m in METRICS for what in ("mean", "std")),
    ]
    rows = []
    for model in models:
        for group in (*SYSTEMS, "all"):
            if group in model.errors:
                values = [value for m in METRICS for value in (model.errors[group][m].mean, model.errors[group][m].std)]
                rows.append([model.target, model.name, group, float(model.counts[group]), *values])
    write_csv(path.with_suffix(".csv"), header, rows)

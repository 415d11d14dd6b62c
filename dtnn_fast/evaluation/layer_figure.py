# SPDX-License-Identifier: MIT
"""The layer ablation (Fig. 5a of arXiv 2405.09052): the error against the encoder layer whose latents are decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..plotting import BLUE, GREEN, GREY, OCHRE, RED, mark_panels, picture
from .comparison import ModelErrors
from .csv_files import write_csv

COLORS = (BLUE, OCHRE, RED, GREEN, GREY)


def draw_layers(path: Path, ablations: Mapping[str, Sequence[ModelErrors]]) -> None:
    """Draw MAE_ten on the test crystals against the layer, a panel for each target, and write the numbers.

    Args:
        path: of the picture; the CSV file has the same stem.
        ablations: by model, what `by_layer` found; at least one.
    """
    targets = list(dict.fromkeys(model.target for models in ablations.values() for model in models))
    layers = sorted({model.layer for models in ablations.values() for model in models if model.layer is not None})
    with picture(path, width=3.1 * len(targets) + 0.4, height=2.9) as figure:
        axes = figure.subplots(1, len(targets), squeeze=False)[0]
        for axis, target in zip(axes, targets, strict=True):
            for place, (name, models) in enumerate(ablations.items()):
                chosen = [model for model in models if model.target == target]
                spreads = [model.errors["all"]["mae_ten"] for model in chosen]
                # Beside one another, so that bars of deviations do not hide each other.
                shift = 0.07 * (place - (len(ablations) - 1) / 2)
                axis.errorbar(
                    [(model.layer or 0) + shift for model in chosen],
                    [spread.mean for spread in spreads],
                    [spread.std for spread in spreads],
                    marker="o",
                    markersize=4.5,
                    linewidth=1.2,
                    capsize=3,
                    color=COLORS[place % len(COLORS)],
                    label=name,
                )
            axis.set(xlabel="encoder layer n", ylabel=f"{target}: MAE_ten", xticks=layers)
            axis.margins(x=0.12)
            axis.set_ylim(bottom=0.0)
        axes[0].legend(loc="lower right", fontsize=8)
        mark_panels(axes)
    header = ["model", "target", "layer", "splits", "validation_mean", "validation_std", "test_mean", "test_std"]
    rows = []
    for name, models in ablations.items():
        for model in models:
            kept, test = model.validation, model.errors["all"]["mae_ten"]
            rows.append([name, model.target, model.layer, test.splits, kept.mean, kept.std, test.mean, test.std])
    write_csv(path.with_suffix(".csv"), header, rows)

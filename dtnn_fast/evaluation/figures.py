# SPDX-License-Identifier: MIT
"""Figures of an evaluation, each with its numbers as CSV beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..crystals.crystal import Crystal
from ..crystals.elements import MAX_ATOMIC_NUMBER, symbol
from ..plotting import BLUE, GREEN, GREY, OCHRE, RED, label_points, log_axis, mark_panels, picture, plain_numbers
from ..training.metrics import METRICS
from .comparison import ElementError, Model, ModelErrors, element_errors
from .evaluation import Evaluation
from .runs import DataSet
from .tables import METRIC_NAMES, SYSTEMS, write_csv

_NOBLE_GASES = (0, 2, 10, 18, 36, 54, 86, 118)
_LANTHANUM, _ACTINIUM = 57, 89
_MODEL_COLORS = (BLUE, OCHRE, RED, GREEN, GREY)
_METRIC_COLORS = dict(zip(METRICS, (BLUE, OCHRE, RED, GREEN), strict=True))
_BAR_WIDTH = 0.2


def write_figures(folder: Path, evaluation: Evaluation, model_name: str | None = None) -> list[tuple[str, Path]]:
    """Draw all figures, with their numbers as CSV beside them.

    Args:
        folder: folder to write.
        evaluation: what they show.
        model_name: the model whose details are shown; None selects our model with the lowest validation error.

    Returns:
        Title and path of each picture.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    detailed = evaluation.models_in_detail(model_name)
    pictures = []
    if evaluation.ablations:
        draw_layers(folder / "layers.png", evaluation.ablations)
        pictures.append(("Error by encoder layer that is decoded (the paper's Fig. 5a)", folder / "layers.png"))
    models = [evaluation.model_of(errors) for errors in detailed]
    draw_elements(folder / "elements.png", [(model, element_errors(model, evaluation.data)) for model in models])
    pictures.append(("Error of each element against its number of crystals (Fig. 5b)", folder / "elements.png"))
    draw_systems(folder / "systems.png", detailed)
    pictures.append(("The four errors in each crystal system (Fig. 5c to 5e)", folder / "systems.png"))
    draw_data_maps(folder / "data.png", evaluation.data)
    pictures.append(("The data set: elements, crystal systems, band gaps", folder / "data.png"))
    return pictures


def draw_layers(path: Path, ablations: Mapping[str, Sequence[ModelErrors]]) -> None:
    """Draw MAE_ten on the test crystals against the encoder layer, with a panel for each target.

    Args:
        path: path of the picture; the CSV file has the same stem.
        ablations: ablations from `by_layer`, at least one model.
    """
    targets = list(dict.fromkeys(model.target for models in ablations.values() for model in models))
    layers = sorted({model.layer for models in ablations.values() for model in models if model.layer is not None})
    with picture(path, width=3.1 * len(targets) + 0.4, height=2.9) as figure:
        axes = figure.subplots(1, len(targets), squeeze=False)[0]
        for axis, target in zip(axes, targets, strict=True):
            for place, (name, models) in enumerate(ablations.items()):
                of_target = [model for model in models if model.target == target]
                spreads = [model.errors["all"]["mae_ten"] for model in of_target]
                # Models are drawn side by side, so that error bars do not hide each other.
                shift = 0.07 * (place - (len(ablations) - 1) / 2)
                axis.errorbar(
                    [(model.layer or 0) + shift for model in of_target],
                    [spread.mean for spread in spreads],
                    [spread.std for spread in spreads],
                    marker="o",
                    markersize=4.5,
                    linewidth=1.2,
                    capsize=3,
                    color=_MODEL_COLORS[place % len(_MODEL_COLORS)],
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
            validation, test = model.validation, model.errors["all"]["mae_ten"]
            layer_cells = [name, model.target, model.layer, test.splits]
            rows.append([*layer_cells, validation.mean, validation.std, test.mean, test.std])
    write_csv(path.with_suffix(".csv"), header, rows)


def draw_systems(path: Path, models: Sequence[ModelErrors]) -> None:
    """Draw the four errors in each crystal system (Fig. 5c to 5e of arXiv 2405.09052), with a panel for each target.

    Args:
        path: path of the picture; the CSV file has the same stem.
        models: the model that is shown, for each target.
    """
    with picture(path, width=8.4, height=2.3 * len(models) + 0.5) as figure:
        axes = figure.subplots(len(models), 1, squeeze=False)[:, 0]
        for axis, model in zip(axes, models, strict=True):
            groups = [group for group in (*SYSTEMS, "all") if group in model.errors]
            places = np.arange(len(groups))
            for number, metric in enumerate(METRICS):
                spreads = [model.errors[group][metric] for group in groups]
                axis.bar(
                    places + (number - 1.5) * _BAR_WIDTH,
                    [spread.mean for spread in spreads],
                    _BAR_WIDTH,
                    yerr=[spread.std for spread in spreads],
                    color=_METRIC_COLORS[metric],
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
        axes[-1].set_xlabel("crystal system, with the mean number of test crystals per split")
        mark_panels(axes)
    header = [
        "target",
        "model",
        "crystals",
        "tested_a_split",
        *(f"{metric}_{statistic}" for metric in METRICS for statistic in ("mean", "std")),
    ]
    rows = []
    for model in models:
        for group in (*SYSTEMS, "all"):
            if group in model.errors:
                spreads = [model.errors[group][metric] for metric in METRICS]
                values = [value for spread in spreads for value in (spread.mean, spread.std)]
                rows.append([model.target, model.name, group, float(model.counts[group]), *values])
    write_csv(path.with_suffix(".csv"), header, rows)


def draw_elements(path: Path, errors: Sequence[tuple[Model, Sequence[ElementError]]]) -> None:
    """Draw the error of each element against its number of crystals (Fig. 5b), with a panel for each target.

    Args:
        path: path of the picture; the CSV file has the same stem.
        errors: the model that is shown and its `element_errors`, for each target.
    """
    with picture(path, width=4.2 * len(errors) + 0.3, height=3.6) as figure:
        axes = figure.subplots(1, len(errors), squeeze=False)[0]
        for axis, (model, elements) in zip(axes, errors, strict=True):
            counts = np.array([element.crystals for element in elements])
            values = np.array([element.mae_ten for element in elements])
            axis.scatter(counts, values, s=12, color=BLUE, linewidths=0, alpha=0.85)
            log_axis(axis.set_xscale, axis.xaxis, counts)
            axis.set(xlabel="number of crystals with the element", ylabel=f"{model.target}: mean MAE_ten")
            log_axis(axis.set_yscale, axis.yaxis, values)
            axis.margins(0.08)
            axis.set_title(model.name, fontsize=8, loc="right")
        mark_panels(axes)
        for axis, (_, elements) in zip(axes, errors, strict=True):
            # Elements with the largest errors are named first, where names compete for space.
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


def draw_data_maps(path: Path, data: DataSet) -> None:
    """Draw the data set: elements, permittivity by crystal system, and electronic against ionic permittivity.

    Args:
        path: path of the picture; the numbers go to <stem>_elements.csv and <stem>_crystals.csv.
        data: the crystals that all runs used.
    """
    crystals = list(data.crystals.values())
    targets = [name for name in ("electronic", "ionic", "total") if all(name in c.targets for c in crystals)]
    means = {name: np.array([np.trace(c.targets[name]) / 3.0 for c in crystals]) for name in targets}
    counts = data.element_counts()
    with picture(path, width=8.6, height=8.2) as figure:
        grid = figure.add_gridspec(2, 2, height_ratios=[1.15, 1])
        table, systems, scatter = (figure.add_subplot(cell) for cell in (grid[0, :], grid[1, 0], grid[1, 1]))
        _draw_periodic_table(figure, table, counts)
        target = "total" if "total" in means else targets[0]
        _draw_system_boxes(systems, means[target], data.systems(list(data.crystals)), target)
        _draw_electronic_against_ionic(figure, scatter, means, crystals)
        mark_panels([table, systems, scatter])
    elements = [[symbol(z), counts[z]] for z in sorted(counts)]
    write_csv(path.with_name(f"{path.stem}_elements.csv"), ["element", "crystals"], elements)
    header = ["id", "formula", "crystal_system", "band_gap_ev", *(f"{name}_mean" for name in targets)]
    rows = [
        [c.id, c.formula, system, _band_gap(c), *(float(means[name][n]) for name in targets)]
        for n, (c, system) in enumerate(zip(crystals, data.systems(list(data.crystals)), strict=True))
    ]
    write_csv(path.with_name(f"{path.stem}_crystals.csv"), header, rows)


def _band_gap(crystal: Crystal) -> float:
    gap = crystal.info.get("band_gap_ev")
    return float(gap) if isinstance(gap, int | float) else math.nan


def _draw_periodic_table(figure: Any, axis: Any, counts: dict[int, int]) -> None:
    """Draw the periodic table, coloured by the number of crystals with each element."""
    squares = np.full((10, 18), np.nan)
    for z, count in counts.items():
        column, row = place_in_table(z)
        squares[math.ceil(row) - 1, column - 1] = count
    x, y = np.meshgrid(np.arange(19) + 0.5, [*(np.arange(8) + 0.5), 8.0, 9.0, 10.0])
    colors = axis.pcolormesh(
        x, y, squares, norm="log", cmap="YlGnBu", vmin=1, vmax=max(counts.values()), edgecolors="white", linewidth=1.5
    )
    top = max(counts.values())
    for z in range(1, MAX_ATOMIC_NUMBER + 1):
        column, row = place_in_table(z)
        count = counts.get(z, 0)
        shade = "white" if count > top**0.6 else "0.15"
        axis.text(column, row - 0.1, symbol(z), ha="center", va="center", fontsize=8, color=shade if count else "0.7")
        if count:
            axis.text(column, row + 0.29, str(count), ha="center", va="center", fontsize=5, color=shade)
    axis.set(xlim=(0.4, 18.6), ylim=(10.1, 0.4), aspect="equal")
    axis.axis("off")
    bar = figure.colorbar(colors, ax=axis, pad=0.01, shrink=0.7, format=plain_numbers())
    bar.set_label("number of crystals with the element")
    bar.outline.set_linewidth(0.5)


def place_in_table(atomic_number: int) -> tuple[int, float]:
    """Return column (1 to 18) and row of an element in the periodic table; the f block is in rows 8.5 and 9.5."""
    for first, row in ((_LANTHANUM, 8.5), (_ACTINIUM, 9.5)):
        if first <= atomic_number <= first + 14:
            return 3 + atomic_number - first, row
    period = next(number for number, last in enumerate(_NOBLE_GASES) if atomic_number <= last)
    step = atomic_number - _NOBLE_GASES[period - 1]
    length = _NOBLE_GASES[period] - _NOBLE_GASES[period - 1]
    return (step if step <= (1 if length == 2 else 2) else 18 - (length - step)), period


def _draw_system_boxes(axis: Any, means: np.ndarray, systems: Sequence[str], target: str) -> None:
    """Draw box plots of the mean permittivity in each crystal system, with a point for each crystal."""
    present = [name for name in SYSTEMS if name in systems]
    groups = [means[np.array(systems) == name] for name in present]
    places = np.arange(len(present))
    random = np.random.RandomState(0)
    for place, values in zip(places, groups, strict=True):
        offsets = random.uniform(-0.3, 0.3, len(values))
        axis.scatter(place + offsets, values, s=4, color=BLUE, alpha=0.35, linewidths=0)
    axis.boxplot(groups, positions=places, widths=0.62, showfliers=False, medianprops={"color": "black"})
    if means.min() > 0.0:
        log_axis(axis.set_yscale, axis.yaxis, means)
    names = [f"{name} ({len(values)})" for name, values in zip(present, groups, strict=True)]
    axis.set_xticks(places, names, rotation=35, ha="right", rotation_mode="anchor", fontsize=8)
    axis.set(ylabel=f"mean {target} permittivity")


def _draw_electronic_against_ionic(
    figure: Any, axis: Any, means: dict[str, np.ndarray], crystals: Sequence[Crystal]
) -> None:
    """Draw the ionic against the electronic permittivity, coloured by the band gap where it is known."""
    if not {"electronic", "ionic"} <= means.keys():
        axis.axis("off")
        axis.text(0.5, 0.5, "electronic and ionic tensors\nare not known", ha="center", va="center", color="0.4")
        return
    x, y = means["electronic"], means["ionic"]
    gaps = np.array([_band_gap(crystal) for crystal in crystals])
    known = np.isfinite(gaps)
    axis.scatter(x[~known], y[~known], s=9, color="0.7", linewidths=0)
    if known.any():
        rows = np.flatnonzero(known)[np.argsort(-gaps[known])]  # small gaps are drawn last, on top
        points = axis.scatter(x[rows], y[rows], c=gaps[rows], s=9, cmap="viridis", linewidths=0, alpha=0.85)
        bar = figure.colorbar(points, ax=axis, pad=0.015)
        bar.set_label("band gap (eV)")
        bar.outline.set_linewidth(0.5)
    if x.min() > 0.0:
        log_axis(axis.set_xscale, axis.xaxis, x)
    # A few ionic parts are slightly negative.
    axis.set_yscale("symlog", linthresh=1.0)
    axis.yaxis.set_major_formatter(plain_numbers())
    axis.set_ylim(bottom=min(0.0, float(y.min())) - 0.2)
    axis.set(xlabel=r"mean electronic permittivity $\varepsilon_\infty$")
    axis.set(ylabel=r"mean ionic permittivity $\varepsilon_{ion}$")

# SPDX-License-Identifier: MIT
"""Maps of the data set: elements, permittivity by crystal system, electronic against ionic part and band gap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..crystals.crystal import Crystal
from ..crystals.elements import MAX_ATOMIC_NUMBER, symbol
from ..plotting import BLUE, log_axis, mark_panels, picture, plain_numbers
from .csv_files import write_csv
from .data_set import DataSet
from .tables import SYSTEMS

_NOBLE_GASES = (0, 2, 10, 18, 36, 54, 86, 118)
_LANTHANUM, _LUTETIUM, _ACTINIUM, _LAWRENCIUM = 57, 71, 89, 103


def place_in_table(atomic_number: int) -> tuple[int, float]:
    """Column (1 to 18) and row of an element in the periodic table; the f block stands below as rows 8.5 and 9.5."""
    for first, row in ((_LANTHANUM, 8.5), (_ACTINIUM, 9.5)):
        if first <= atomic_number <= first + 14:
            return 3 + atomic_number - first, row
    period = next(number for number, last in enumerate(_NOBLE_GASES) if atomic_number <= last)
    step = atomic_number - _NOBLE_GASES[period - 1]
    length = _NOBLE_GASES[period] - _NOBLE_GASES[period - 1]
    return (step if step <= (1 if length == 2 else 2) else 18 - (length - step)), period


def draw_data_maps(path: Path, data: DataSet) -> None:
    """Draw the three maps, and write their numbers beside them as <stem>_elements.csv and <stem>_crystals.csv.

    Args:
        path: of the picture.
        data: the crystals that all runs used.
    """
    crystals = list(data.crystals.values())
    targets = [name for name in ("electronic", "ionic", "total") if all(name in c.targets for c in crystals)]
    means = {name: np.array([np.trace(c.targets[name]) / 3.0 for c in crystals]) for name in targets}
    counts = data.element_counts()
    with picture(path, width=8.6, height=8.2) as figure:
        grid = figure.add_gridspec(2, 2, height_ratios=[1.15, 1])
        table, systems, scatter = (figure.add_subplot(part) for part in (grid[0, :], grid[1, 0], grid[1, 1]))
        _draw_table(figure, table, counts)
        target = "total" if "total" in means else targets[0]
        _draw_systems(systems, means[target], data.systems(list(data.crystals)), target)
        _draw_scatter(figure, scatter, means, crystals)
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


def _draw_table(figure: Any, axis: Any, counts: dict[int, int]) -> None:
    """The periodic table, coloured by the number of crystals with each element."""
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
    bar.set_label("crystals with the element")
    bar.outline.set_linewidth(0.5)


def _draw_systems(axis: Any, means: np.ndarray, systems: Sequence[str], target: str) -> None:
    """Box plots of the mean permittivity in each crystal system, with the single crystals beside them."""
    present = [name for name in SYSTEMS if name in systems]
    groups = [means[np.array(systems) == name] for name in present]
    places = np.arange(len(present))
    random = np.random.RandomState(0)
    for place, values in zip(places, groups, strict=True):
        spread = random.uniform(-0.3, 0.3, len(values))
        axis.scatter(place + spread, values, s=4, color=BLUE, alpha=0.35, linewidths=0)
    axis.boxplot(groups, positions=places, widths=0.62, showfliers=False, medianprops={"color": "black"})
    if means.min() > 0.0:
        log_axis(axis.set_yscale, axis.yaxis, means)
    names = [f"{name} ({len(values)})" for name, values in zip(present, groups, strict=True)]
    axis.set_xticks(places, names, rotation=35, ha="right", rotation_mode="anchor", fontsize=8)
    axis.set(ylabel=f"mean {target} permittivity")


def _draw_scatter(figure: Any, axis: Any, means: dict[str, np.ndarray], crystals: Sequence[Crystal]) -> None:
    """Electronic against ionic permittivity, coloured by the band gap where it is known."""
    if not {"electronic", "ionic"} <= means.keys():
        axis.axis("off")
        axis.text(0.5, 0.5, "electronic and ionic parts\nare not known", ha="center", va="center", color="0.4")
        return
    x, y = means["electronic"], means["ionic"]
    gaps = np.array([_band_gap(crystal) for crystal in crystals])
    known = np.isfinite(gaps)
    axis.scatter(x[~known], y[~known], s=9, color="0.7", linewidths=0)
    if known.any():
        above = np.flatnonzero(known)[np.argsort(-gaps[known])]
        points = axis.scatter(x[above], y[above], c=gaps[above], s=9, cmap="viridis", linewidths=0, alpha=0.85)
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

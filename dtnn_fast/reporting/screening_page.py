# SPDX-License-Identifier: MIT
"""The report of a screening: all that its page shows, from the folder that ``dtnn-fast screen`` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..crystals.crystal import Crystal
from ..datasets.bundled import load_labelled
from ..screening.crystal_warnings import TITLES
from .crystal_entries import add_structures, entry_of_row, nonmetal_symbols, radii_of
from .density import Grid
from .element_counts import count_elements
from .figures_of_report import FEWEST_FOR_CONTOURS, density_figure, merit_figure
from .html_page import write_page
from .permittivity_figure import permittivity_figure
from .provenance import provenance_of
from .rejection_groups import group_rejected
from .screening_folder import ScreeningFolder

# Points of the figure of gap against permittivity beside the first ranks and the Pareto front, and of its strip.
_SAMPLE, _SAMPLE_OF_STRIP = 3000, 600
_LARGEST_FRONT = 300
_TITLES: dict[str, str] = {str(code): title for code, title in TITLES.items()}
_TITLES |= {
    "no_value": "no value to rank by",
    "no_band_gap": "a metal: the input gives a band gap of zero",
    "duplicate": "same structure as an earlier crystal",
}


def write_screening_report(path: Path, folder: Path, top: int, command: str) -> int:
    """Write the report of a screening as one HTML file that needs no network.

    Args:
        path: the file.
        folder: of ``dtnn-fast screen``.
        top: number of first ranks in the table.
        command: command line that writes the page.

    Returns:
        Number of rejected crystals.

    Raises:
        BadFileError: the folder holds no screening, or a file of it cannot be read.
        MissingPackageError: duckdb or plotly is not installed.
    """
    with ScreeningFolder(folder) as screening:
        content = screening_content(screening, top, command)
    write_page(path, content)
    return int(content["rejected"]["total"])


def screening_content(screening: ScreeningFolder, top: int, command: str) -> dict[str, Any]:
    """Collect what the page shows.

    Args:
        screening: the folder.
        top: number of first ranks in the table.
        command: command line that writes the page.

    Returns:
        The content for `write_page`.
    """
    rejected = group_rejected(screening)
    counts = _counts(screening)
    entries = _first_ranks(screening, top)
    training = load_labelled()
    main = screening.main_target
    figures = [_merit(screening, top)]
    figures += [
        _density(screening, target, training) for target in ("electronic", "ionic") if target in screening.targets
    ]
    return {
        "kind": "screening",
        "title": "Screening report" + (f": {name}" if (name := screening.path.resolve().name) != "screening" else ""),
        "version": __version__,
        "counts": {**counts, "rejected": rejected["total"], "training": len(training)},
        "targets": list(screening.targets),
        "main_target": main,
        "ranked_by": _describe_ranking(screening, main),
        "crystals": entries,
        "radii": radii_of(entries),
        "nonmetals": nonmetal_symbols(),
        "elements": count_elements(entries, _element_shares(screening, counts["predicted"])),
        "figures": figures,
        "rejected": rejected,
        "not_ranked": [[_TITLES.get(code, code.replace("_", " ")), count] for code, count in screening.not_ranked()],
        "provenance": provenance_of(screening.manifest, screening.summary, command),
    }


def _counts(screening: ScreeningFolder) -> dict[str, int]:
    counts = screening.one(
        "SELECT count(*) AS predicted, count(band_gap) AS with_gap, count(duplicate_of) AS duplicates, "
        "count(*) FILTER (labelled) AS labelled, count(*) FILTER (coalesce(warnings, '') <> '') AS warned FROM parts"
    )
    return {**counts, "ranked": screening.one("SELECT count(*) AS n FROM ranking")["n"]}


def _describe_ranking(screening: ScreeningFolder, main: str) -> str:
    if not screening.has_ranking_file:
        return (
            f"Ranked by the figure of merit (band gap times {main} permittivity) where the gap is known, then {main} "
            "permittivity, since this folder has no ranking.csv"
        )
    for record in (screening.summary, screening.manifest):
        for values in (record or {}, (record or {}).get("settings") or {}):
            described = values.get("ranked_by") or values.get("sorted_by") if isinstance(values, dict) else None
            if isinstance(described, str):
                return f"Ranked by {described}"
    return "In the order of ranking.csv"


def _first_ranks(screening: ScreeningFolder, top: int) -> list[dict[str, Any]]:
    rows = screening.query(
        "SELECT parts.*, ranking.rank FROM ranking JOIN parts USING (id) WHERE ranking.rank <= ? ORDER BY ranking.rank",
        [top],
    )
    entries = [entry_of_row(row, screening.targets) for row in rows]
    add_structures(entries, rows)
    return entries


def _element_shares(screening: ScreeningFolder, total: int) -> dict[str, float]:
    rows = screening.query(
        "SELECT element, count(*) AS n FROM (SELECT unnest(list_distinct(species_at_sites)) AS element FROM parts) "
        "WHERE element IS NOT NULL GROUP BY element"
    )
    return {row["element"]: row["n"] / max(total, 1) for row in rows}


def _merit(screening: ScreeningFolder, top: int) -> dict[str, Any]:
    """Make Fig. 6d: a sample of the ranked crystals with a gap, all of the first ranks, and the Pareto front."""
    screening.query(
        "CREATE OR REPLACE TEMP TABLE merits AS SELECT id, formula, eps, band_gap, figure_of_merit, ranking.rank "
        "FROM parts JOIN ranking USING (id) WHERE eps > 0"
    )
    columns = "id, formula, eps, band_gap, figure_of_merit, CASE WHEN rank <= ? THEN rank END AS rank"
    front = screening.query(
        f"SELECT {columns} FROM (SELECT *, max(band_gap) OVER (ORDER BY eps DESC, band_gap DESC, id ROWS BETWEEN "
        "UNBOUNDED PRECEDING AND 1 PRECEDING) AS best FROM merits WHERE band_gap IS NOT NULL) "
        f"WHERE best IS NULL OR band_gap > best ORDER BY eps DESC LIMIT {_LARGEST_FRONT}",
        [top],
    )
    known = "FROM merits WHERE band_gap IS NOT NULL"
    rows = screening.query(f"SELECT {columns} {known} ORDER BY rank <= ? DESC, hash(id) LIMIT {_SAMPLE}", [top, top])
    shown = {row["id"] for row in rows}
    rows += [row for row in front if row["id"] not in shown]
    counts = screening.one("SELECT count(band_gap) AS with_gap, count(*) - count(band_gap) AS without_gap FROM merits")
    strip = screening.query(
        f"SELECT eps FROM merits WHERE band_gap IS NULL ORDER BY rank <= ? DESC, hash(id) LIMIT {_SAMPLE_OF_STRIP}",
        [top],
    )
    notes = []
    if counts["with_gap"] > len(rows):
        notes.append(f"{len(rows):,} of {counts['with_gap']:,} crystals are drawn: the first ranks and a sample.")
    if not rows:
        if counts["without_gap"] and {"electronic", "ionic"} <= set(screening.targets):
            parts = _parts_of_permittivity(screening, top)
            if parts is not None:
                return parts
        notes.append("No ranked crystal has a known band gap.")
    if counts["without_gap"]:
        part = f" (a sample of {len(strip):,} is drawn)" if len(strip) < counts["without_gap"] else ""
        notes.append(f"The strip has the {counts['without_gap']:,} ranked crystals without a known gap{part}.")
    figure = merit_figure(rows, front, screening.main_target, [row["eps"] for row in strip])
    return {"id": "merit", "title": "Band gap against permittivity", **figure, "notes": notes}


def _parts_of_permittivity(screening: ScreeningFolder, top: int) -> dict[str, Any] | None:
    """Make the figure that stands in for Fig. 6d where no ranked crystal has a known gap; None without a point."""
    rows = screening.query(
        "SELECT id, formula, eps, electronic_mean AS x, ionic_mean AS y, "
        "CASE WHEN ranking.rank <= ? THEN ranking.rank END AS rank FROM parts JOIN ranking USING (id) "
        "WHERE eps > 0 AND x > 0 AND isfinite(x::DOUBLE) AND isfinite(y::DOUBLE) "
        f"ORDER BY ranking.rank <= ? DESC, hash(id) LIMIT {_SAMPLE}",
        [top, top],
    )
    if not rows:
        return None
    total = screening.one("SELECT count(*) AS n FROM parts JOIN ranking USING (id) WHERE eps > 0")["n"]
    notes = ["No ranked crystal has a known band gap. docs/screening.md says how to give gaps."]
    if total > len(rows):
        notes.append(f"{len(rows):,} of {total:,} crystals are drawn: the first ranks and a sample.")
    figure = permittivity_figure(rows, screening.main_target)
    return {"id": "merit", "title": "Ionic against electronic permittivity", **figure, "notes": notes}


def _density(screening: ScreeningFolder, target: str, training: list[Crystal]) -> dict[str, Any]:
    """Make Fig. 6a or 6b: densities of the training crystals, by DFPT, and of the candidates, as predicted."""
    mean = f"{target}_mean"
    pairs = np.array([(np.trace(c.targets[target]) / 3.0, c.info["band_gap_ev"]) for c in training])
    positive = pairs[pairs[:, 0] > 0.0]
    usable = f"NOT coalesce(labelled, false) AND isfinite({mean}::DOUBLE) AND {mean} > 0"
    limits = screening.one(
        f"SELECT quantile_cont(log10({mean}), 0.002) AS low, quantile_cont(log10({mean}), 0.998) AS high, "
        f"quantile_cont(band_gap, 0.998) AS top FROM parts WHERE {usable}"
    )
    logs = np.log10(positive[:, 0])
    lows, highs, tops = [np.quantile(logs, 0.002)], [np.quantile(logs, 0.998)], [np.quantile(positive[:, 1], 0.998)]
    for values, limit in ((lows, limits["low"]), (highs, limits["high"]), (tops, limits["top"])):
        if limit is not None:
            values.append(limit)
    grid = Grid(float(min(lows)) - 0.06, float(max(highs)) + 0.06, max(float(max(tops)) * 1.06, 0.5))
    step, height = (grid.high - grid.low) / grid.columns, grid.top / grid.rows
    cells = screening.query(
        f"SELECT CAST(floor((log10({mean}) - ?) / ?) AS BIGINT) AS cx, CAST(floor(band_gap / ?) AS BIGINT) AS cy, "
        f"count(*) AS n FROM parts WHERE {usable} AND log10({mean}) BETWEEN ? AND ? GROUP BY cx, cy",
        [grid.low, step, height, grid.low, grid.high - 1e-9],
    )
    candidates, without_gap = np.zeros((grid.rows, grid.columns), dtype=np.int64), np.zeros(grid.columns, dtype=int)
    for cell in cells:
        if cell["cy"] is None:
            without_gap[cell["cx"]] += cell["n"]
        elif 0 <= cell["cy"] < grid.rows:
            candidates[cell["cy"], cell["cx"]] += cell["n"]
    counts = {"training": grid.count_points(positive[:, 0], positive[:, 1]), "candidates": candidates}
    points = {}
    if 0 < candidates.sum() < FEWEST_FOR_CONTOURS:
        rows = screening.query(
            f"SELECT {mean} AS x, band_gap AS y FROM parts WHERE {usable} AND band_gap BETWEEN 0 AND ? "
            f"AND log10({mean}) BETWEEN ? AND ?",
            [grid.top, grid.low, grid.high],
        )
        points["candidates"] = ([row["x"] for row in rows], [row["y"] for row in rows])
    total = screening.one("SELECT count(*) AS n FROM parts WHERE NOT coalesce(labelled, false)")["n"]
    notes = _density_notes(target, total, int(candidates.sum()), int(without_gap.sum()))
    left_out = len(pairs) - int(counts["training"].sum())
    if left_out:
        notes.append(f"{left_out:,} training crystals lie outside of the axes or have no {target} part.")
    figure = density_figure(target, grid, counts, points, without_gap)
    titles = {"electronic": "Electronic permittivity", "ionic": "Ionic permittivity"}
    return {"id": f"density-{target}", "title": titles[target], **figure, "notes": notes}


def _density_notes(target: str, total: int, with_gap: int, without_gap: int) -> list[str]:
    notes = []
    if not with_gap:
        notes.append(f"No candidate has a known band gap: all {without_gap:,} are in the strip.")
    elif without_gap:
        notes.append(f"{without_gap:,} candidates without a known gap are in the strip.")
    outside = total - with_gap - without_gap
    if outside:
        notes.append(f"{outside:,} candidates lie outside of the axes or have no positive {target} part.")
    return notes

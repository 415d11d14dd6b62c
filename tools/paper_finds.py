# SPDX-License-Identifier: MIT
"""Write docs/paper_finds.md: where the finds of the paper's authors rank among the bundled candidates.

python tools/paper_finds.py paper_validated.jsonl FOLDER_OF_A_SCREENING_OF_THE_BUNDLED_CRYSTALS docs/paper_finds.md
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import dtnn_fast
from dtnn_fast.crystals import Crystal
from dtnn_fast.datasets.bundled import load_screening
from dtnn_fast.screening.ranking import RankingRules, open_ranking

_TEXT = """# The finds of the paper's authors

The authors of arXiv 2405.09052 published tensors of 76 crystals that their screenings had found and that they computed
with DFPT (PBE): 35 with a high permittivity and band gap, 41 with a high anisotropy. For {num} of them we have a
structure. None of these tensors was used for training. The table has means and anisotropies (largest minus smallest
principal value) of the tensors, and the rank that the prediction would have among the {candidates:,} bundled
candidates that `dtnn-fast screen` ranks: by mean total permittivity for the first search, by anisotropy of the total
tensor for the second.

`dtnn-fast screen` made the candidates' predictions, `tools/paper_finds.py` this page. DFPT values of 1.00 for an
electronic mean are in the published table. The error bars (±) hold for nine of ten crystals of unseen chemical systems.
"""
_MEANING = {
    "high permittivity and band gap": "total_mean",
    "high anisotropy": "total_anisotropy",
}


def _mean(tensor: Any) -> float:
    return float(np.trace(np.array(tensor)) / 3.0)


def _anisotropy(tensor: Any) -> float:
    matrix = np.array(tensor)
    return float(np.ptp(np.linalg.eigvalsh((matrix + matrix.T) / 2.0)))


def _find_structures(rows: list[dict[str, Any]]) -> list[Crystal]:
    bundled = {crystal.id: crystal for crystal in load_screening()}
    found = []
    for row in rows:
        if "frac_coords" in row:
            cell = row["lattice_angstrom"]
            found.append(Crystal.from_fractional(row["id"], row["atomic_numbers"], row["frac_coords"], cell))
        elif row["id"] in bundled:
            found.append(bundled[row["id"]])
    return found


def _section(search: str, rows: list[tuple[dict[str, Any], dict[str, Any]]], candidates: np.ndarray) -> list[str]:
    column = _MEANING[search]
    lines = [f"## Search for {search}", ""]
    lines.append("| id | formula | electronic: DFPT | predicted | ionic: DFPT | predicted | total: DFPT | predicted |")
    lines[-1] += " anisotropy: DFPT | predicted | rank | warnings |"
    lines.append("| --- | --- |" + " ---: |" * 9 + " --- |")
    deviations, ranks = [], []
    for published, predicted in sorted(rows, key=lambda pair: -pair[1][column]):
        known = [_mean(published[f"eps_{target}"]) for target in ("electronic", "ionic", "total")]
        found = [predicted[f"{target}_mean"] for target in ("electronic", "ionic", "total")]
        ranks.append(1 + int((candidates > predicted[column]).sum()))
        deviations.append(np.abs(np.subtract(known, found)))
        errors = [predicted[f"{target}_mean_error"] for target in ("electronic", "ionic", "total")]
        cells = [f"{a:.2f} | {b:.2f} ± {e:.2f}" for a, b, e in zip(known, found, errors, strict=True)]
        cells.append(f"{_anisotropy(published['eps_total']):.2f} | {predicted['total_anisotropy']:.2f}")
        codes = predicted["warning_codes"].replace("_", " ")
        lines.append(f"| {predicted['id']} | {predicted['formula']} | {' | '.join(cells)} | {ranks[-1]:,} | {codes} |")
    tenth = len(candidates) // 10
    medians = ", ".join(f"{value:.2f}" for value in np.median(deviations, axis=0))
    inside = sum(place <= tenth for place in ranks)
    lines += [
        "",
        f"Median deviations of the means (electronic, ionic, total): {medians}. In the first tenth: {inside} of ",
    ]
    lines[-1] += f"{len(ranks)}."
    return lines


def main(table: str, screening: str, page: str) -> None:
    """Predict the finds, compare, and write the page."""
    rows = [json.loads(line) for line in Path(table).read_text(encoding="utf-8").splitlines()]
    by_id = {row["id"]: row for row in rows}
    rules = RankingRules(by="total_mean", rank_unreliable=True, rank_duplicates=True)
    predicted = dtnn_fast.screen(_find_structures(rows), rules=rules).to_pylist()
    with open_ranking([Path(screening)], RankingRules(by="total_mean")) as ranking:
        listed = ranking.table().select(sorted(_MEANING.values())).to_pydict()
    text = _TEXT.format(num=len(predicted), candidates=len(listed["total_mean"]))
    lines = [text]
    for search, column in _MEANING.items():
        pairs = [(by_id[row["id"]], row) for row in predicted if by_id[row["id"]]["search"] == search]
        lines += [*_section(search, pairs, np.array(listed[column])), ""]
    Path(page).write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])

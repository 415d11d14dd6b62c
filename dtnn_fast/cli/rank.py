# SPDX-License-Identifier: MIT
"""dtnn-fast rank: rank the crystals of screenings again, by other numbers or conditions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import stdout
from .ranking_options import (
    DuplicatesOption,
    ElementsOption,
    LowestOption,
    ParetoOption,
    PrototypeOption,
    SortByOption,
    TopOption,
    UnreliableOption,
    WhereOption,
    WithoutOption,
    split_elements,
    warn_few,
    write_and_print,
)

if TYPE_CHECKING:
    from ..screening.ranking import Ranking


def rank(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDERS", help="Folders that dtnn-fast screen wrote.", exists=True, file_okay=False),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            file_okay=False,
            show_default="the first of FOLDERS",
            help="Folder for ranking.csv and unranked.csv, created if missing.",
        ),
    ] = None,
    top: TopOption = 20,
    sort_by: SortByOption = None,
    lowest_first: LowestOption = False,
    rank_unreliable: UnreliableOption = False,
    where: WhereOption = None,
    elements: ElementsOption = "",
    without: WithoutOption = "",
    per_prototype: PrototypeOption = None,
    pareto: ParetoOption = False,
    rank_duplicates: DuplicatesOption = False,
    columns: Annotated[
        bool, typer.Option("--columns", help="Only print the columns that expressions can use, with their types.")
    ] = False,
) -> None:
    """Rank the crystals of one or several screenings, and write ranking.csv and unranked.csv.

    Nothing is predicted, and millions of crystals need little memory. Expressions are in the SQL of DuckDB.

    Examples:

    - dtnn-fast rank screening --where "e_above_hull < 0.05 and nsites <= 20" --per-prototype 3
    - dtnn-fast rank screening --by "electronic_anisotropy / electronic_mean" --elements O
    - dtnn-fast rank screening --pareto

    Exit code: 0 the ranking was written, 2 nothing could be done.
    """
    from ..screening.ranking import RankingRules, open_ranking

    rules = RankingRules(
        *(sort_by, lowest_first, where, split_elements(elements), split_elements(without), rank_unreliable),
        *(rank_duplicates, per_prototype, pareto),
    )
    with open_ranking(folders, rules) as ranking:
        if columns:
            for name, type in ranking.columns().items():
                stdout().print(f"{name:<28}{type}")
            return
        folder = folders[0] if output is None else output
        folder.mkdir(parents=True, exist_ok=True)
        written = write_and_print(ranking, folder, top)
        warn_few(ranking)
        _update_summary(folder / "summary.json", ranking)
    stdout().print(f"results: {', '.join(map(str, written))}")


def _update_summary(path: Path, ranking: Ranking) -> None:
    """Say in the summary of a screening how its ranking.csv is made now; reports show it."""
    from ..files import read_json_object, replacing

    if not path.exists():
        return
    summary = read_json_object(path) | {
        "sorted_by": ranking.value_name,
        "lowest_first": ranking.rules.lowest_first,
        "rank_unreliable": ranking.rules.rank_unreliable,
        "where": ranking.rules.where,
        "ranked": ranking.count(),
        "not_ranked": ranking.reasons(),
    }
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")

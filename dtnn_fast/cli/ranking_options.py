# SPDX-License-Identifier: MIT
"""Options of `screen` and `rank` that say what is ranked, and the files of a ranking."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import stderr, stdout
from .ranking_table import print_ranking, print_unranked

if TYPE_CHECKING:
    from ..screening.ranking import Ranking

RANKING_FILE, UNRANKED_FILE = "ranking.csv", "unranked.csv"
_PANEL = "The ranking"

TopOption = Annotated[
    int,
    typer.Option(
        min=0,
        help="Number of crystals in the printed table; 0 prints no table. ranking.csv lists all crystals.",
        rich_help_panel=_PANEL,
    ),
]
SortByOption = Annotated[
    str | None,
    typer.Option(
        "--sort-by",
        "--by",
        show_default="band gap x total mean (the paper's figure of merit); crystals without a known gap follow, by "
        "total mean",
        help="Number to rank by. Of the total dielectric tensor: mean (a third of the trace), e1, e2 or e3 (principal "
        "values in ascending order) or anisotropy (e3 - e1). Or a column such as electronic_mean, or an SQL expression "
        "over columns such as 'band_gap * total_mean'.",
        rich_help_panel=_PANEL,
    ),
]
LowestOption = Annotated[
    bool,
    typer.Option(
        "--lowest-first",
        help="Rank small values first, for example for low-k dielectrics. By default, large values come first.",
        rich_help_panel=_PANEL,
    ),
]
UnreliableOption = Annotated[
    bool,
    typer.Option(
        "--rank-unreliable",
        help="Also rank crystals with a warning that the prediction is meaningless or a guess: metals, pure elements, "
        "slabs and molecules in a box, lengths in a wrong unit, crystals unlike all training crystals, and error bars "
        "larger than the value.",
        rich_help_panel=_PANEL,
    ),
]
WhereOption = Annotated[
    str | None,
    typer.Option(
        help="Rank only crystals that meet this SQL condition on columns, such as 'e_above_hull < 0.05 and nsites <= "
        "20'. Crystals for which the condition is unknown, because a value is missing, are left out.",
        rich_help_panel=_PANEL,
    ),
]
ElementsOption = Annotated[
    str,
    typer.Option(help="Rank only crystals that contain all of these elements, such as Ti,O.", rich_help_panel=_PANEL),
]
WithoutOption = Annotated[
    str,
    typer.Option(
        "--without",
        help="Leave out crystals that contain any of these elements, such as Pb,Tl.",
        rich_help_panel=_PANEL,
    ),
]
PrototypeOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        show_default="no limit",
        help="Maximum number of ranked crystals of each prototype (structure type).",
        rich_help_panel=_PANEL,
    ),
]
ParetoOption = Annotated[
    bool,
    typer.Option(
        "--pareto",
        help="Rank only the Pareto front: crystals that no other crystal exceeds in both band gap and the number "
        "ranked by.",
        rich_help_panel=_PANEL,
    ),
]
DuplicatesOption = Annotated[
    bool,
    typer.Option(
        "--rank-duplicates",
        help="Also rank crystals that have the same structure as an earlier one.",
        rich_help_panel=_PANEL,
    ),
]


def split_elements(text: str) -> tuple[str, ...]:
    """Split text such as "Ti,O" or "Ti O" into symbols."""
    return tuple(text.replace(",", " ").split())


def write_and_print(ranking: Ranking, folder: Path, top: int) -> list[Path]:
    """Write ranking.csv and unranked.csv into a folder, and print the first ranks.

    Args:
        ranking: the ranking.
        folder: an existing folder.
        top: number of printed crystals.

    Returns:
        The written files.
    """
    files = [folder / RANKING_FILE, folder / UNRANKED_FILE]
    ranking.write(*files)
    if top:
        print_ranking(stdout(), ranking, top)
        print_unranked(stdout(), ranking, UNRANKED_FILE)
    return files


def warn_few(ranking: Ranking) -> None:
    """Say on stderr that filters left nothing, where that is so."""
    if not ranking.count():
        stderr().print("no crystal is ranked: the conditions and warnings exclude all of them", style="yellow")

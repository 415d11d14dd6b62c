# SPDX-License-Identifier: MIT
"""The command report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import command_line, stdout

# More structures would make the page larger than browsers and mail programs like.
MOST_RANKS = 1000


def report(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            show_default=False,
            exists=True,
            file_okay=False,
            help="Folder that dtnn-fast screen wrote.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            dir_okay=False,
            show_default="FOLDER/report.html",
            help="HTML file to write. An existing file is replaced.",
        ),
    ] = None,
    top: Annotated[
        int,
        typer.Option(
            min=1,
            max=MOST_RANKS,
            help="Number of crystals, from the first rank on, in the table and with a structure in 3D.",
        ),
    ] = 100,
) -> None:
    """Write a screening as one HTML page that opens offline in any browser.

    The page shows band gap against permittivity with the Pareto front, training crystals beside candidates, the
    elements of the first ranks, and a table to sort and filter. A click on a crystal shows its structure, with the
    dielectric tensor as an ellipsoid. The page also lists the rejected crystals with the reasons, and the command,
    model and input that the numbers come from.

    Crystals without a known band gap are in a strip below the figures, and after the others in the table.

    Needs duckdb and plotly: pip install "dtnn-fast[report]".

    Exit code: 0 the page was written, 2 nothing could be done.
    """
    from ..reporting.screening_page import write_screening_report

    page = folder / "report.html" if output is None else output
    write_screening_report(page, folder, top, command_line())
    stdout().print(f"report: {page} ({page.stat().st_size / 1e6:.1f} MB)")

# SPDX-License-Identifier: MIT
"""The command candidates."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import DTNNError
from . import SOME_REJECTED, STOPPED
from .config import LARGEST_SEED
from .console import command_line, stderr, stdout
from .options import CRYSTAL_FILES, describe

if TYPE_CHECKING:
    from ..candidates import Candidates
    from ..crystals.crystal import Crystal, Rejected

# Lines about the progress are at least this many seconds apart.
_SECONDS_BETWEEN_LINES = 10.0


def candidates(
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Output: a new or empty folder for Parquet files of 50,000 crystals each, with OPTIMADE's column "
            "names; or a single file that ends in .parquet, .jsonl (JSON lines) or .cif (one data block per crystal).",
        ),
    ],
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Number of crystals to make.")] = 10_000,
    source: Annotated[
        list[Path] | None,
        typer.Option(
            "--from",
            metavar="FILES",
            show_default="the crystals bundled with dtnn-fast",
            help=f"Crystals whose elements are replaced. Can be repeated. {CRYSTAL_FILES}",
        ),
    ] = None,
    elements: Annotated[
        str | None,
        typer.Option(
            metavar="SYMBOLS",
            show_default="the elements of the bundled model, except radioactive ones",
            help="Elements that the new crystals may contain, such as 'O,Ti,Zr,Ba'.",
        ),
    ] = None,
    exclude: Annotated[
        str | None,
        typer.Option(
            metavar="SYMBOLS",
            show_default="none",
            help="Elements that the new crystals must not contain, such as 'Pb,Cd,Hg,Tl,As'.",
        ),
    ] = None,
    max_atoms: Annotated[int, typer.Option(min=1, help="Maximum number of atoms in the cell.")] = 40,
    seed: Annotated[
        int,
        typer.Option(min=0, max=LARGEST_SEED, help="Seed of the random choice; the same seed makes the same crystals."),
    ] = 0,
    probability: Annotated[
        float | None,
        typer.Option(
            show_default="the largest of 1e-4, 1e-5, ... 1e-8 that gives enough crystals",
            help="Minimum probability of a substitution: the product of the probabilities of its ions.",
        ),
    ] = None,
) -> None:
    """Make new crystals by replacing the elements of known ones, as input of pack and screen.

    Ions are replaced by ions that occupy the same sites in known crystals, with the probabilities of Hautier et al.
    (Inorg. Chem. 50, 656). Charges add up to zero, and the volume is scaled by Shannon's ionic radii. Crystals are
    drawn in proportion to their probability. There are no duplicates: the same elements never occur twice on the same
    sites of a prototype, and no new crystal equals a given or a bundled one.

    The structures are not relaxed. docs/candidates.md describes the columns.

    Exit code: 0 done, 3 fewer crystals exist than requested or some of the given ones were rejected (stderr says
    which), 2 nothing could be made, 130 stopped by Ctrl-C.
    """
    allowed, excluded = _read_symbols(elements, "--elements"), _read_symbols(exclude, "--exclude")
    if probability is not None and not 0 < probability < 1:
        raise typer.BadParameter(f"expected a number between 0 and 1, got {probability}", param_hint="--probability")

    from .. import __version__
    from ..candidates import Candidates, CandidateSettings
    from ..candidates.candidates_file import check_output, write_candidates

    check_output(output)
    settings = CandidateSettings(count, max_atoms, allowed, excluded or frozenset(), seed, probability)
    given, rejected = _read_given(source) if source else (None, [])
    start = time.perf_counter()
    made = Candidates(settings, given)
    rejected += made.rejected
    for reject in rejected:
        stderr().print(f"rejected: {describe(reject)}", style="yellow")
    _print_parents(made)
    provenance = {
        "dtnn_fast_version": __version__,
        "command": command_line(),
        "seed": seed,
        "smallest_probability": made.smallest_probability,
        "cite": "https://doi.org/10.1021/ic102031h",
    }
    written = 0
    last_line = time.perf_counter()
    try:
        for written in write_candidates(output, made, provenance):
            if time.perf_counter() - last_line > _SECONDS_BETWEEN_LINES:
                last_line = time.perf_counter()
                rate = written / (last_line - start)
                stderr().print(f"{written:,} of {count:,} crystals, {rate:,.0f} a second")
    except KeyboardInterrupt:
        stderr().print(f"stopped: {output} is incomplete", style="yellow")
        raise typer.Exit(STOPPED) from None
    stdout().print(f"{written:,} crystals in {time.perf_counter() - start:.1f} s: {output}")
    if written < count:
        stderr().print(
            f"fewer than the {count:,} requested crystals: no other substitution has a probability above "
            f"{made.smallest_probability:g}; lower --probability, or give more --elements or --from crystals",
            style="yellow",
        )
    if rejected or written < count:
        raise typer.Exit(SOME_REJECTED)


def _print_parents(made: Candidates) -> None:
    stderr().print(
        f"{made.num_parents:,} parents in {len(made.prototypes):,} prototypes; {made.available:,} new crystals have a "
        f"probability above {made.smallest_probability:g}"
    )
    for reason, number in Counter(made.left_out).most_common():
        stderr().print(f"no parents: {number:,} with {reason}")


def _read_given(paths: Sequence[Path]) -> tuple[list[Crystal], list[Rejected]]:
    from ..crystals.crystal import Rejected
    from ..screening.sources import open_source

    found = open_source(paths, ())
    rejected = list(found.rejected)
    crystals = []
    for item in found.read():
        if isinstance(item, Rejected):
            rejected.append(item)
        else:
            crystals.append(item)
    if not crystals:
        reason = f": {describe(rejected[0])}" if rejected else ""
        raise DTNNError(f"candidates: no crystal could be read from {', '.join(map(str, paths))}{reason}")
    return crystals, rejected


def _read_symbols(text: str | None, option: str) -> frozenset[int] | None:
    """Read atomic numbers from symbols between commas or spaces.

    Raises:
        typer.BadParameter: one of them is not an element, or there is none.
    """
    if text is None:
        return None
    from ..crystals.elements import atomic_number

    try:
        numbers = frozenset(atomic_number(name) for name in text.replace(",", " ").split())
    except ValueError as error:
        raise typer.BadParameter(f"expected symbols such as 'O,Ti': {error}", param_hint=option) from None
    if not numbers:
        raise typer.BadParameter("expected symbols such as 'O,Ti', got none", param_hint=option)
    return numbers

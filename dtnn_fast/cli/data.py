# SPDX-License-Identifier: MIT
"""The commands data fetch and data info."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ..errors import BadFileError, DTNNError
from . import STOPPED
from .console import stderr, stdout
from .progress import FetchProgress

if TYPE_CHECKING:
    from ..crystals.crystal import Crystal


_SCALARS = ("database_version", "date", "url", "file", "sha256", "query", "encoder", "tensor_range", "frame_of_source")


def print_counts(console: Console, provenance: Mapping[str, Any]) -> None:
    """A table of how many rows were kept and dropped, and why."""
    table = Table(title=f"{provenance.get('title')}, version {provenance.get('database_version')}")
    table.add_column("rows")
    table.add_column("count", justify="right")
    table.add_row("kept", f"{provenance['kept']:,}", style="bold")
    for why, count in provenance.get("dropped", {}).items():
        table.add_row(f"dropped: {why}", f"{count:,}")
    console.print(table)


def print_set(console: Console, crystals: Sequence[Crystal], provenance: Mapping[str, Any]) -> None:
    """Where a packed set came from, and what is in it."""
    import numpy as np

    if "kept" in provenance:
        print_counts(console, provenance)
    table = Table(box=None, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name in _SCALARS:
        if provenance.get(name) is not None:
            table.add_row(name.replace("_", " "), str(provenance[name]))
    table.add_row("licence", str(provenance.get("licence", "not known")))
    for text in provenance.get("cite", []):
        table.add_row("cite", str(text))
    elements = {int(z) for crystal in crystals for z in np.unique(crystal.atomic_numbers)}
    atoms = sum(crystal.num_atoms for crystal in crystals)
    table.add_row("crystals", f"{len(crystals):,} of {len(elements)} elements, {atoms:,} atoms")
    for name in ("electronic", "ionic", "total"):
        means = [np.trace(crystal.targets[name]) / 3 for crystal in crystals if name in crystal.targets]
        if means:
            low, middle, high = np.quantile(means, [0, 0.5, 1])
            table.add_row(f"{name}, mean", f"{len(means):,} tensors: median {middle:.3g}, from {low:.3g} to {high:.3g}")
    console.print(table)


# A symmetry that so many tensors lack points to the frame, not to the calculations.
_MANY = 0.1


class SourceName(StrEnum):
    """Where to fetch from."""

    mp = "mp"
    matminer = "matminer"
    paper = "paper"
    jarvis = "jarvis"


class Encoder(StrEnum):
    """Whose elements the crystals may have."""

    native = "native"
    sevennet_0 = "sevennet-0"
    sevennet_l3i5 = "sevennet-l3i5"


class FrameName(StrEnum):
    """The Cartesian frame of a source's tensors."""

    cell = "cell"
    ieee = "ieee"


data = typer.Typer(help="Fetch labelled crystals from public sources, and look at fetched files.", no_args_is_help=True)


@data.command()
def fetch(
    source: Annotated[
        SourceName,
        typer.Argument(
            help="mp: the Materials Project (needs the extra mp and an API key in MP_API_KEY). matminer: its data set "
            "dielectric_constant. paper: a JSON file in the form of the paper's repository (--file). jarvis: the "
            "perturbation-theory runs of JARVIS-DFT, one download for each."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", show_default="<source>.npz", help="The packed file to write; ends in .npz."),
    ] = None,
    encoder: Annotated[
        Encoder, typer.Option(help="Drop crystals with an element that this encoder does not know.")
    ] = Encoder.native,
    file: Annotated[
        Path | None, typer.Option(show_default=False, help="Read this copy of the source's file; download nothing.")
    ] = None,
    downloads: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            show_default="a temporary folder",
            help="Keep downloaded files here, and use those that are there: an interrupted fetch goes on.",
        ),
    ] = None,
    clean: Annotated[
        bool,
        typer.Option(
            "--clean/--no-clean", help="The paper's rule: drop total tensors with an element outside of -10 to 100."
        ),
    ] = True,
    check_symmetry: Annotated[
        bool,
        typer.Option(
            "--check-symmetry/--no-check-symmetry", help="Drop tensors that lack the symmetry of their crystal."
        ),
    ] = True,
    frame: Annotated[
        FrameName | None,
        typer.Option(
            show_default="as documented for the source",
            help="The frame of the source's tensors: that of the cell, or the IEEE standard one.",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, show_default="all", help="At most so many rows.")] = None,
) -> None:
    """Fetch crystals with dielectric tensors into one packed file that train, screen and predict read.

    Rows that cannot be used are counted by reason, and listed in a file beside it: mp.dropped.csv for mp.npz. Nothing
    half-written is left when a fetch fails or is stopped.
    """
    target = Path(f"{source.value}.npz") if output is None else output
    if target.suffix != ".npz":
        raise typer.BadParameter(f"expected a name that ends in .npz, got {target}", param_hint="--output")

    from ..datasets.cleaning import TENSOR_RANGE, Selection
    from ..datasets.fetch import Request, fetch_set
    from ..datasets.sources.source import SOURCES, Frame, Why, write_dropped
    from ..formats.packed_set import write_packed

    chosen = SOURCES[source.value]
    selection = Selection(
        encoder=encoder.value,
        frame=chosen.frame if frame is None else Frame(frame.value),
        check_symmetry=check_symmetry,
        tensor_range=TENSOR_RANGE if clean else None,
    )
    _prepare(target)
    if downloads is not None:
        downloads.mkdir(parents=True, exist_ok=True)
    keep = tempfile.TemporaryDirectory() if downloads is None else nullcontext(downloads)
    try:
        with keep as folder, FetchProgress() as progress:
            request = Request(chosen, Path(folder), file, limit, progress.show)
            found = fetch_set(request, selection)
    except KeyboardInterrupt:
        stderr().print("stopped: nothing was written", style="yellow")
        raise typer.Exit(STOPPED) from None

    listed = target.with_suffix(".dropped.csv")
    write_dropped(listed, found.dropped)
    print_counts(stdout(), found.provenance)
    if not found.kept:
        raise DTNNError(f"no crystal is left of {len(found.dropped):,} rows: see {listed}")
    asymmetric = found.provenance["dropped"].get(Why.SYMMETRY.value, 0)
    if asymmetric > _MANY * (len(found.kept) + asymmetric):
        other = FrameName.ieee if selection.frame is Frame.cell else FrameName.cell
        stderr().print(f"many tensors lack the symmetry of their crystal: try --frame {other.value}", style="yellow")
    write_packed(target, found.kept, found.provenance)
    stdout().print(f"results: {target}, {listed}   (dtnn-fast train {target})")


def _prepare(target: Path) -> None:
    """See that the result can be written, before minutes of downloads."""
    if target.is_dir():
        raise BadFileError(f"{target}: is a folder, where the packed file must go")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise BadFileError(f"{target.parent}: nothing can be written there: {error.strerror or error}") from error


@data.command()
def info(file: Annotated[Path, typer.Argument(help="A file of dtnn-fast data fetch.")]) -> None:
    """Say where a packed file came from, what to cite, and what is in it."""
    from ..crystals.crystal import Rejected
    from ..formats.packed_set import read_packed
    from .options import describe

    items, provenance = read_packed(file)
    print_set(stdout(), [item for item in items if not isinstance(item, Rejected)], provenance)
    for item in items:
        if isinstance(item, Rejected):
            stderr().print(f"cannot be used: {describe(item)}", style="yellow")

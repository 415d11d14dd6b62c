# SPDX-License-Identifier: MIT
"""The commands `data fetch` and `data info`: labelled crystals from public sources, and what a packed set holds."""

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
from .command import Command
from .console import counted, stderr, stdout
from .progress import CountProgress

if TYPE_CHECKING:
    from ..crystals.crystal import Crystal


# Choices of the options: a copy of names in the package, which is too slow to import for --help. A test compares them.
class SourceName(StrEnum):
    """Names of the data sources."""

    mp = "mp"
    matminer = "matminer"
    paper = "paper"
    jarvis = "jarvis"
    phonopy = "phonopy"
    vasp = "vasp"


class EncoderName(StrEnum):
    """Names of the encoders."""

    native = "native"
    sevennet_0 = "sevennet-0"
    sevennet_l3i5 = "sevennet-l3i5"


class FrameName(StrEnum):
    """Names of the Cartesian frames of tensors."""

    cell = "cell"
    ieee = "ieee"


data = typer.Typer(help="Fetch labelled crystals from public sources, and describe packed sets.", no_args_is_help=True)


@data.command(cls=Command)
def fetch(
    source: Annotated[
        SourceName,
        typer.Argument(
            help="Source of the crystals. mp: the Materials Project; needs the extra mp and an API key in the "
            "environment variable MP_API_KEY. matminer: its data set dielectric_constant. paper: a JSON file in the "
            "format of the repository of arXiv 2405.09052, given by --file. jarvis: the DFPT calculations of "
            "JARVIS-DFT, one download per crystal. phonopy: folders or archives of phonopy, such as those of the "
            "phonon database, given by --file. vasp: vasprun.xml files, given by --file. For phonopy and vasp, some of "
            "the labels are enough."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", show_default="SOURCE.npz", help="Packed set to write; its name must end in .npz."
        ),
    ] = None,
    encoder: Annotated[
        EncoderName,
        typer.Option(
            help="Encoder of the model to train with the data. Crystals with an element that it does not know are "
            "dropped. native accepts all elements, and is also the choice for train --encoder distilled; sevennet-0 "
            "and sevennet-l3i5 know H to Bi and Ac to Pu."
        ),
    ] = EncoderName.native,
    file: Annotated[
        Path | None,
        typer.Option(
            show_default="download",
            help="Local file or folder to read instead of downloading the source's data file. Required for paper, "
            "phonopy and vasp, not available for mp. With jarvis, one archive per crystal is downloaded nevertheless.",
        ),
    ] = None,
    downloads: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            show_default="a temporary folder",
            help="Folder that keeps the downloaded files (for mp, the calculations). Files already in it are not "
            "downloaded again, so that an interrupted fetch can be continued.",
        ),
    ] = None,
    clean: Annotated[
        bool,
        typer.Option(
            "--clean/--no-clean",
            help="Whether to drop crystals whose total tensor has an element below -10 or above 100, as in arXiv "
            "2405.09052.",
        ),
    ] = True,
    check_symmetry: Annotated[
        bool,
        typer.Option(
            "--check-symmetry/--no-check-symmetry",
            help="Whether to drop crystals whose total tensor lacks the symmetry of the crystal.",
        ),
    ] = True,
    frame: Annotated[
        FrameName | None,
        typer.Option(
            show_default="ieee for mp, cell for the others",
            help="Cartesian frame of the source's tensors: cell is the frame of the structure, ieee the IEEE standard "
            "frame of the crystal. With mp, it is used only for tensors whose calculation cannot be read.",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, show_default="all", help="Maximum number of crystals to read from the source.")
    ] = None,
) -> None:
    """Fetch crystals with dielectric tensors into one packed set for train, screen and predict.

    Crystals that cannot be used are counted by reason, and listed in a file beside the packed set: mp.dropped.csv for
    mp.npz. A fetch that fails or is stopped leaves no incomplete file.

    Exit code: 0 the packed set was written, 2 nothing was written, 130 stopped by Ctrl-C.
    """
    target = Path(f"{source.value}.npz") if output is None else output
    if target.suffix != ".npz":
        raise typer.BadParameter(f"expected a name that ends in .npz, got {target}", param_hint="--output")

    from ..datasets.cleaning import TENSOR_RANGE, SelectionRules
    from ..datasets.fetch import DATA_SOURCES, FetchRequest, fetch_set
    from ..datasets.sources.source import DropReason, TensorFrame, write_dropped
    from ..formats.packed_set import write_packed
    from ..symmetry import with_operations

    data_source = DATA_SOURCES[source.value]
    rules = SelectionRules(
        encoder=encoder.value,
        frame=data_source.frame if frame is None else TensorFrame(frame.value),
        check_symmetry=check_symmetry,
        tensor_range=TENSOR_RANGE if clean else None,
    )
    _check_writable(target)
    if downloads is not None:
        downloads.mkdir(parents=True, exist_ok=True)
    downloads_folder = tempfile.TemporaryDirectory() if downloads is None else nullcontext(downloads)
    try:
        with downloads_folder as folder, CountProgress() as progress:
            request = FetchRequest(data_source, Path(folder), file, limit, progress.show)
            fetched = fetch_set(request, rules)
    except KeyboardInterrupt:
        stderr().print("stopped: nothing was written", style="yellow")
        raise typer.Exit(STOPPED) from None

    dropped_file = target.with_suffix(".dropped.csv")
    write_dropped(dropped_file, fetched.dropped)
    _print_counts(stdout(), fetched.provenance)
    if not fetched.kept:
        raise DTNNError(f"no crystal is left: {counted(len(fetched.dropped), 'row')} dropped, see {dropped_file}")
    num_asymmetric = fetched.provenance["dropped"].get(DropReason.WRONG_SYMMETRY.value, 0)
    if num_asymmetric > _WRONG_FRAME_FRACTION * (len(fetched.kept) + num_asymmetric):
        other = FrameName.ieee if rules.frame is TensorFrame.cell else FrameName.cell
        stderr().print(f"many tensors lack the symmetry of their crystal: try --frame {other.value}", style="yellow")
    write_packed(target, with_operations(fetched.kept), fetched.provenance)
    stdout().print(f"results: {target}, {dropped_file}   (dtnn-fast train {target})")


# When more than this fraction of the tensors lack the symmetry of their crystal, the frame is wrong, not the tensors.
_WRONG_FRAME_FRACTION = 0.1


def _check_writable(target: Path) -> None:
    """Check that the result can be written, before minutes of downloads."""
    if target.is_dir():
        raise BadFileError(f"{target}: expected a file name for the packed set, got an existing folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise BadFileError(f"{target.parent}: no file can be written there: {error.strerror or error}") from error


@data.command(cls=Command)
def info(
    file: Annotated[Path, typer.Argument(help="Packed set (.npz) from dtnn-fast data fetch.")],
) -> None:
    """Show where the crystals of a packed set come from, what to cite, and what the set contains."""
    from ..crystals.crystal import Rejected
    from ..formats.packed_set import read_packed
    from .options import describe

    items, provenance = read_packed(file)
    _print_packed_set(stdout(), [item for item in items if not isinstance(item, Rejected)], provenance)
    for item in items:
        if isinstance(item, Rejected):
            stderr().print(f"cannot be used: {describe(item)}", style="yellow")


_PRINTED_KEYS = (
    "database_version",
    "date",
    "url",
    "file",
    "sha256",
    "query",
    "encoder",
    "tensor_range",
    "frame_of_source",
    "tensors_from",
)


def _print_packed_set(console: Console, crystals: Sequence[Crystal], provenance: Mapping[str, Any]) -> None:
    """Print the provenance of a packed set, and the number and tensors of its crystals."""
    import numpy as np

    if "kept" in provenance:
        _print_counts(console, provenance)
    table = Table(box=None, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for key in _PRINTED_KEYS:
        if provenance.get(key) is not None:
            table.add_row(key.replace("_", " "), str(provenance[key]))
    table.add_row("licence", str(provenance.get("licence", "not known")))
    for text in provenance.get("cite", []):
        table.add_row("cite", str(text))
    elements = {int(z) for crystal in crystals for z in np.unique(crystal.atomic_numbers)}
    num_atoms = sum(crystal.num_atoms for crystal in crystals)
    table.add_row("crystals", f"{len(crystals):,} of {counted(len(elements), 'element')}, {counted(num_atoms, 'atom')}")
    for name in ("electronic", "ionic", "total"):
        means = [np.trace(crystal.targets[name]) / 3 for crystal in crystals if name in crystal.targets]
        if means:
            low, median, high = np.quantile(means, [0, 0.5, 1])
            table.add_row(
                f"{name}, mean", f"{counted(len(means), 'tensor')}: median {median:.3g}, from {low:.3g} to {high:.3g}"
            )
    console.print(table)


def _print_counts(console: Console, provenance: Mapping[str, Any]) -> None:
    """Print a table of the number of rows that were kept, and dropped for each reason."""
    table = Table(title=f"{provenance.get('title')}, version {provenance.get('database_version')}")
    table.add_column("rows")
    table.add_column("count", justify="right")
    table.add_row("kept", f"{provenance['kept']:,}", style="bold")
    for route, count in provenance.get("tensors_from", {}).items():
        table.add_row(f"received with tensors of the {route}", f"{count:,}")
    for drop_reason, count in provenance.get("dropped", {}).items():
        table.add_row(f"dropped: {drop_reason}", f"{count:,}")
    console.print(table)

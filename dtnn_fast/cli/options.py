# SPDX-License-Identifier: MIT
"""Options that several commands share, and what they mean; messages about rejected crystals."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import DTNNError
from . import SOME_REJECTED
from .config import LARGEST_SEED
from .console import stderr

if TYPE_CHECKING:
    from ..crystals.crystal import Rejected
    from ..model.predictor import Predictor


# Help of arguments; a copy of the formats in the package, which is too slow to import for --help. A test compares them.
CRYSTAL_FILES = (
    "Crystal files, or folders that hold them: CIF, POSCAR, extxyz, JSON of pymatgen, OPTIMADE, JARVIS or ASE, .jsonl, "
    "or CSV with a column of structures (each also compressed: .gz, .bz2, .xz); archives of these (.zip, .tar, "
    ".tar.gz, .tar.bz2, .tar.xz); Parquet with OPTIMADE's column names; ASE databases (.db); packed sets (.npz) from "
    "dtnn-fast data fetch. A CSV with ids but no structures is a table of properties, which are joined to the crystals "
    "by id."
)

# The bundled models that belong together: copies of names in the package, which is too slow to import for --help.
BUNDLED_MODEL, BUNDLED_LATTICE = "dielectric", "lattice"

ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="Model to use: 'dielectric' (electronic, ionic and total tensor), 'dielectric-electronic', "
        "'dielectric-ionic', 'dielectric-total', or the folder of a model from dtnn-fast train or dtnn-fast ensemble.",
    ),
]
FunctionalOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        show_default="the main one of the model; PBE for the bundled models",
        help="DFT functional to predict for: PBE or PBEsol with the bundled models. The structures must be those of "
        "this functional, since tensors depend on the volume.",
    ),
]
LatticeOption = Annotated[
    str,
    typer.Option(
        metavar="lattice|FOLDER",
        help="Model of Born charges and force constants: 'lattice' (bundled), or the folder of a model from dtnn-fast "
        "train-lattice.",
    ),
]
RunDataOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--data",
        show_default="the labelled crystals bundled with dtnn-fast",
        help="File or folder of the labelled crystals that the runs were trained on. Can be repeated.",
    ),
]
RunCleanOption = Annotated[
    bool,
    typer.Option(
        "--clean/--no-clean",
        help="Whether the runs were trained with the cleaning rule: without crystals "
        "whose total tensor has an element below -10 or above 100 (data.clean of train).",
    ),
]
ThreadsOption = Annotated[int | None, typer.Option(min=1, show_default="all cores", help="Number of CPU threads.")]
DeviceOption = Annotated[
    str,
    typer.Option(
        help="Device to compute on: cpu, cuda (the current GPU), or cuda:N for GPU number N, counted from 0.",
        rich_help_panel="The run",
    ),
]
CacheOption = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        file_okay=False,
        show_default="~/.cache/dtnn_fast",
        help="Folder that stores the latents (atom and bond features) of frozen encoders, so that later runs can reuse "
        "them.",
        rich_help_panel="The run",
    ),
]


class Target(StrEnum):
    """The tensor to learn, or all three."""

    electronic = "electronic"
    ionic = "ionic"
    total = "total"
    all = "all"


class SplitBy(StrEnum):
    """What a split keeps together; see `datasets.splits.split_crystals`."""

    crystals = "crystals"
    structures = "structures"
    systems = "systems"


TargetOption = Annotated[
    Target | None,
    typer.Option(
        "--target",
        show_default="total",
        help="Tensor to learn: electronic, ionic or total, or all for the three together on one encoder.",
        rich_help_panel="The model",
    ),
]
EncoderOption = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        metavar="native|distilled|sevennet-0|sevennet-l3i5|FOLDER",
        show_default="native",
        help="Encoder that turns a crystal into latents (atom and bond features). native starts from random weights "
        "and is trained. The others keep their weights and run once per crystal: distilled (bundled, learned from "
        "SevenNet-0), sevennet-0 and sevennet-l3i5 (need the extra sevennet), or the folder of a saved encoder.",
        rich_help_panel="The model",
    ),
]
JointOption = Annotated[
    bool | None,
    typer.Option(
        "--joint/--no-joint",
        show_default="no-joint",
        help="With --target all: train one decoder for all targets, whose total tensor is the sum of the electronic "
        "and the ionic one. Otherwise each target has its own decoder.",
        rich_help_panel="The model",
    ),
]

_MOST_SPLITS = 1000
_MOST_LAYERS = 5


def target_names(target: str) -> tuple[str, ...]:
    """List the tensors that a target stands for: itself, or the three for "all"."""
    return ("electronic", "ionic", "total") if target == Target.all else (str(target),)


def parse_splits(text: str) -> list[int]:
    """Read seeds from text such as "0-4" or "0,2,4".

    Raises:
        typer.BadParameter: the text has another form, or too many or too large seeds.
    """
    seeds: list[int] = []
    try:
        for seed_range in text.split(","):
            first, dash, last = seed_range.partition("-")
            numbers = range(int(first), int(last if dash else first) + 1)
            if not numbers or len(seeds) + len(numbers) > _MOST_SPLITS or numbers[-1] > LARGEST_SEED:
                raise ValueError
            seeds += numbers
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"expected up to {_MOST_SPLITS} seeds of at most {LARGEST_SEED}, such as 0-4 or 0,2,4, got {text!r}",
            param_hint="--splits",
        ) from None
    return list(dict.fromkeys(seeds))


def parse_layers(text: str) -> tuple[int, ...]:
    """Read layers of an encoder from text such as "4", "2,3" or "1-5"; the result is in increasing order.

    Raises:
        typer.BadParameter: the text has another form, or a layer is out of range.
    """
    try:
        first, dash, last = text.partition("-")
        numbers = range(int(first), int(last) + 1) if dash else [int(layer) for layer in text.split(",")]
        layers = tuple(sorted(set(numbers)))
        if not layers or layers[0] < 1 or layers[-1] > _MOST_LAYERS:
            raise ValueError
    except ValueError:
        raise typer.BadParameter(
            f"expected layers from 1 to {_MOST_LAYERS} such as 4, 2,3 or 1-5, got {text!r}", param_hint="--layer"
        ) from None
    return layers


def load_model(name: str, threads: int | None, device: str, command: str, functional: str = "") -> Predictor:
    """Load a model to a device and set the number of threads; the slow imports are here.

    Args:
        name: name or folder of the model.
        threads: number of CPU threads; None leaves it.
        device: the device.
        command: name of the command, for messages.
        functional: see `Predictor.with_functional`; empty for that of the model.

    Raises:
        BadFileError: there is no such model.
        DTNNError: torch sees no such device.
        typer.BadParameter: the model does not know the functional.
    """
    import torch

    from ..model.load_predictor import load_predictor
    from ..nn.devices import find_device

    place = find_device(device, command)
    if threads is not None:
        torch.set_num_threads(threads)
    predictor = load_predictor(name).to(place)
    if not functional:
        return predictor
    try:
        return predictor.with_functional(functional)
    except ValueError as error:
        reason = str(error).partition(": ")[2].replace("as `functional` ", "")
        raise typer.BadParameter(f"{reason} ({name})", param_hint="--functional") from error


def describe(rejected: Rejected) -> str:
    """One line about a rejected crystal."""
    where = rejected.source or rejected.id
    name = "" if not rejected.id or rejected.id in where else f" ({rejected.id})"
    return f"{where}{name}: {' '.join(rejected.reason.split())}"


def list_rejected(rejected: Sequence[Rejected], predicted: int) -> None:
    """Print why crystals were rejected; not for the only one given, which `require_some` names."""
    if predicted or len(rejected) > 1:
        for reject in rejected:
            stderr().print(f"rejected: {describe(reject)}", style="yellow")


def require_some(predicted: int, rejected: Sequence[Rejected], what: str, done: str = "predicted") -> None:
    """Check that at least one crystal was predicted, or what `done` says.

    Raises:
        DTNNError: with the first reason.
    """
    if predicted:
        return
    if not rejected:
        from ..formats.reading import known_file_names

        raise DTNNError(f"no crystals found in {what}: expected files named {known_file_names()}")
    more = f" (and {len(rejected) - 1} more)" if len(rejected) > 1 else ""
    raise DTNNError(f"nothing could be {done}: {describe(rejected[0])}{more}")


def exit_with(rejected: Sequence[Rejected], where: str) -> None:
    """End a command: code 0 when everything was predicted, 3 when something was rejected."""
    if rejected:
        stderr().print(f"{len(rejected)} rejected: {where}", style="yellow")
        raise typer.Exit(SOME_REJECTED)

# SPDX-License-Identifier: MIT
"""What the commands that predict have in common: options, exit codes, notes on rejected crystals."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import DTNNError
from . import SOME_REJECTED
from .console import stderr

if TYPE_CHECKING:
    from ..crystals.crystal import Rejected
    from ..model.predictor import Predictor


ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="'dielectric' (electronic, ionic and total), 'dielectric-total', 'dielectric-electronic', "
        "'dielectric-ionic', or the folder of a model from dtnn-fast train or dtnn-fast ensemble.",
    ),
]
RunDataOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--data",
        show_default="the labelled crystals that come with dtnn-fast",
        help="File or folder of the labelled crystals that the runs used; may be given several times.",
    ),
]
RunCleanOption = Annotated[
    bool,
    typer.Option("--clean/--no-clean", help="Whether the runs dropped crystals by the cleaning rule; as in train."),
]
ThreadsOption = Annotated[int | None, typer.Option(min=1, show_default="all cores", help="CPU threads.")]


def load_model(name: str, threads: int | None) -> Predictor:
    """Load a model and set the number of threads; the slow imports are here.

    Raises:
        BadFileError: there is no such model.
    """
    import torch

    from ..model.ensemble import load_predictor

    if threads is not None:
        torch.set_num_threads(threads)
    return load_predictor(name)


def describe(rejected: Rejected) -> str:
    """One line about a rejected crystal."""
    where = rejected.source or rejected.id
    name = "" if not rejected.id or rejected.id in where else f" ({rejected.id})"
    return f"{where}{name}: {' '.join(rejected.reason.split())}"


def require_some(predicted: int, rejected: Sequence[Rejected], what: str) -> None:
    """Refuse to go on when nothing could be predicted.

    Raises:
        DTNNError: with the first reason.
    """
    if predicted:
        return
    if not rejected:
        raise DTNNError(
            f"no crystals found in {what}: expected .cif, .vasp, POSCAR, .extxyz, .json, .jsonl or .npz files"
        )
    more = f" (and {len(rejected) - 1} more)" if len(rejected) > 1 else ""
    raise DTNNError(f"nothing could be predicted: {describe(rejected[0])}{more}")


def exit_with(rejected: Sequence[Rejected], where: str) -> None:
    """End a command: code 0 when everything was predicted, 3 when something was rejected."""
    if rejected:
        stderr().print(f"{len(rejected)} rejected: {where}", style="yellow")
        raise typer.Exit(SOME_REJECTED)


LARGEST_SEED = 2**32 - 1  # what NumPy's RandomState takes
_MOST_SPLITS = 1000
_MOST_LAYERS = 5


class Target(StrEnum):
    """Which tensor to learn."""

    electronic = "electronic"
    ionic = "ionic"
    total = "total"
    all = "all"

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors it stands for."""
        return tuple(t.value for t in Target if t is not Target.all) if self is Target.all else (self.value,)


def parse_splits(text: str) -> list[int]:
    """Seeds from text such as "0-4" or "0,2,4".

    Raises:
        typer.BadParameter: it is no such text.
    """
    seeds: list[int] = []
    try:
        for part in text.split(","):
            first, dash, last = part.partition("-")
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
    """Layers of an encoder from text such as "4", "2,3" or "1-5", in rising order.

    Raises:
        typer.BadParameter: it is no such text.
    """
    try:
        first, dash, last = text.partition("-")
        numbers = range(int(first), int(last) + 1) if dash else [int(part) for part in text.split(",")]
        layers = tuple(sorted(set(numbers)))
        if not layers or layers[0] < 1 or layers[-1] > _MOST_LAYERS:
            raise ValueError
    except ValueError:
        raise typer.BadParameter(
            f"expected layers from 1 to {_MOST_LAYERS} such as 4, 2,3 or 1-5, got {text!r}", param_hint="--layer"
        ) from None
    return layers


def parse_channels(text: str) -> list[int]:
    """Three widths from text such as "128,32,32".

    Raises:
        typer.BadParameter: it is no such text.
    """
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 3 or min(numbers) < 1:
        raise typer.BadParameter(
            f"expected three positive numbers such as 128,32,32, got {text!r}", param_hint="--channels"
        )
    return numbers


def parse_positive(text: str) -> tuple[str, ...]:
    """The targets of --positive."""
    known = Target.all.names
    names = tuple(dict.fromkeys(part for part in text.split(",") if part))
    if not set(names) <= set(known):
        raise typer.BadParameter(f"expected some of {', '.join(known)}, got {text!r}", param_hint="--positive")
    return names

# SPDX-License-Identifier: MIT
"""What the commands that predict have in common: options, exit codes, notes on rejected crystals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import DTNNError
from .console import stderr

if TYPE_CHECKING:
    from ..crystals.rejected import Rejected
    from ..model.predictor import Predictor

SOME_REJECTED = 3

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
    import torch  # noqa: PLC0415  slow to import

    from ..model.ensemble_storage import load_predictor  # noqa: PLC0415  slow to import

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

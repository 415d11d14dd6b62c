# SPDX-License-Identifier: MIT
"""The program with all its commands. Heavy packages are imported inside the commands, so that --help is quick."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .. import __version__
from ..errors import DTNNError
from . import FATAL
from .candidates import candidates
from .command import Command
from .config import SettingsCommand
from .console import print_error
from .data import data
from .dfpt import dfpt
from .distill import distill
from .ensemble import ensemble
from .evaluate import evaluate
from .export import export
from .info import info
from .pack import pack
from .predict import predict
from .rank import rank
from .refine import refine
from .report import report
from .screen import screen
from .serve import serve
from .train import train
from .train_lattice import train_lattice
from .train_potential import train_potential
from .tune import tune


class _Program(TyperGroup):
    """The group of commands, which prints every expected error as one line on stderr; a traceback is a bug."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (DTNNError, ImportError, OSError) as error:
            if isinstance(error, BrokenPipeError):
                raise
            print_error(str(error))
            raise typer.Exit(FATAL) from error


app = typer.Typer(
    cls=_Program,
    help="Predict the static dielectric tensors of inorganic crystals, and train models for this.",
    epilog="Run dtnn-fast COMMAND --help for the options of a command.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dtnn-fast {__version__}")
        raise typer.Exit


@app.callback()
def _program_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


_COMMANDS = (
    *(screen, rank, report, pack, candidates, predict, serve, refine, dfpt),
    *(train, train_lattice, train_potential, ensemble, tune, distill, evaluate, export, info),
)
for _command in _COMMANDS:
    app.command(cls=SettingsCommand if _command in (train, tune, distill) else Command)(_command)
app.add_typer(data, name="data")

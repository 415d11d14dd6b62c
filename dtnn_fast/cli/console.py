# SPDX-License-Identifier: MIT
"""Consoles of the commands: results go to stdout, progress and errors to stderr.

They print texts as they are: brackets in paths, ids and names of extras are no markup, and ``:smile:`` is no emoji.
"""

from __future__ import annotations

import functools
import shlex
import sys

from rich.console import Console
from rich.text import Text

# Width for output to a file, which has no width to query: wide enough for our tables.
_FILE_WIDTH = 160


def stdout() -> Console:
    """Return a console for results; it is new on every call, because tests replace sys.stdout."""
    return _console(stderr=False)


def stderr() -> Console:
    """Return a console for progress, notes and errors."""
    return _console(stderr=True)


def _console(stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    is_file = not stream.isatty()
    return Console(
        stderr=stderr,
        width=_FILE_WIDTH if is_file else None,
        markup=False,
        emoji=False,
        highlight=False,
        soft_wrap=is_file,
        # FORCE_COLOR, which CI services and Jupyter's kernels set, asks for colours and not for bars that move.
        force_interactive=False if is_file else None,
    )


def print_error(message: str) -> None:
    """Print an error as one red line on stderr."""
    one_line = " ".join(message.split())
    _console(stderr=True).print(Text.assemble(("error: ", "bold red"), (one_line, "red")), soft_wrap=True)


def counted(number: int, noun: str) -> str:
    """Write a number with its noun: 1 crystal, 1,234 crystals."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


@functools.cache
def command_line() -> str:
    """Return the command as it was typed, for the records of a run."""
    return shlex.join(["dtnn-fast", *sys.argv[1:]])

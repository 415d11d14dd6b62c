# SPDX-License-Identifier: MIT
"""Where the commands print: results to stdout, progress and errors to stderr."""

from __future__ import annotations

import functools
import shlex
import sys

from rich.console import Console
from rich.text import Text

# Wide enough for our tables where the output goes to a file and there is no width to ask for.
_FILE_WIDTH = 140


def stdout() -> Console:
    """The console for results; made anew for each command, because tests replace sys.stdout."""
    return _console(stderr=False)


def stderr() -> Console:
    """The console for progress, notes and errors."""
    return _console(stderr=True)


def _console(stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _FILE_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, soft_wrap=width is not None)


def print_error(message: str) -> None:
    """Print an error as one red line on stderr."""
    one_line = " ".join(message.split())
    _console(stderr=True).print(Text.assemble(("error: ", "bold red"), (one_line, "red")), soft_wrap=True)


@functools.cache
def command_line() -> str:
    """The command as it was typed, for the record."""
    return shlex.join(["dtnn-fast", *sys.argv[1:]])

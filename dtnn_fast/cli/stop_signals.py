# SPDX-License-Identifier: MIT
"""Ends of commands by Ctrl-C, and by SIGTERM, which queue systems send before they kill a job."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from . import STOPPED
from .console import stderr


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM within the block."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not in the main thread, where Python allows no handlers
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def ending_quietly() -> Iterator[None]:
    """Say that nothing is lost where Ctrl-C or SIGTERM comes before or after the predictions, and exit with 130."""
    try:
        yield
        return
    except KeyboardInterrupt:
        pass
    except RuntimeError as error:
        # What DuckDB makes of Ctrl-C.
        if "interrupted" not in str(error).lower():
            raise
    stderr().print("stopped: the results are incomplete; run the same command again to continue", style="yellow")
    raise typer.Exit(STOPPED)

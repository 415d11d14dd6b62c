# SPDX-License-Identifier: MIT
"""The program dtnn-fast. This file needs neither typer nor torch, so that it can say what is missing."""

from __future__ import annotations

import sys

# Exit codes of every command, beside 0.
FATAL = 2  # nothing was done: wrong options or unusable input
SOME_REJECTED = 3  # done, but some crystals or runs were rejected
STOPPED = 130  # Ctrl-C, the code that shells give


def main() -> None:
    """Run the command line; the console script dtnn-fast."""
    try:
        import rich  # noqa: F401  may be absent
        import typer  # noqa: F401  may be absent
    except ImportError as error:
        print(
            f"dtnn-fast: the command line needs typer and rich ({error}).\n"
            'Install them with: pip install "dtnn-fast[cli]"',
            file=sys.stderr,
        )
        raise SystemExit(FATAL) from None
    from .app import app

    app(prog_name="dtnn-fast")

# SPDX-License-Identifier: MIT
"""Results as JSON lines, written as they come, so that a run that is cut off keeps what it measured."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from sides import brief

STARTED = time.monotonic()


class Results:
    """A file of JSON lines, and the time that is left for more of them.

    Args:
        options: of `parser`.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._path: Path = options.output
        self._seconds: float = options.seconds
        self._common = {"device": options.device, "build": options.build}
        # The file is complete at every moment; a default handler would leave a traceback only.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(143))

    def add(self, kind: str, **values: Any) -> None:
        """Append a line."""
        line = json.dumps({"kind": kind, **self._common, **values})
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def attempt(self, kind: str, call: Callable[[], dict[str, Any]], **values: Any) -> dict[str, Any]:
        """Append what `call` returns, or its error."""
        start = time.monotonic()
        try:
            found = call()
        except Exception as error:
            found = {"error": brief(error)}
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        self.add(kind, **values, **found, took_s=round(time.monotonic() - start, 2))
        return found

    def time_is_over(self, reserve: float = 0.0) -> bool:
        """Less than `reserve` seconds are left."""
        return time.monotonic() - STARTED > self._seconds - reserve


def parser(description: str | None) -> argparse.ArgumentParser:
    """Options of all programs of this folder."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="cpu tests the program itself")
    options.add_argument("--output", type=Path, required=True, help="file to which JSON lines are appended")
    options.add_argument("--seconds", type=float, default=float("inf"), help="begin no measurement after this long")
    options.add_argument("--build", default="main", help="name of the measured build in the lines")
    options.add_argument("--small", action="store_true", help="few and small inputs, to test the program")
    return options


def synchronize(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize()

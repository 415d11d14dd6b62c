# SPDX-License-Identifier: MIT
"""Makes timing.py importable, and prints the ratios of all cases at the end of `pytest benchmarks`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from timing import LINES


def pytest_terminal_summary(terminalreporter) -> None:  # type: ignore[no-untyped-def]
    if LINES:
        terminalreporter.section("ratios, medians of interleaved runs")
        for line in LINES:
            terminalreporter.write_line(line)

# SPDX-License-Identifier: MIT
"""How the runs were made: commands, parameters, times, hardware and versions, from their records."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from .runs import Run
from .tables import Cell, Table

UNKNOWN = "not recorded"


def run_table(runs: Sequence[Run]) -> Table:
    """One row for each model, set of targets and encoder layer."""
    groups: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        layer = "-" if run.layer is None else str(run.layer)
        groups.setdefault((run.model, ", ".join(run.predictions.expected), layer), []).append(run)
    header = ["model", "targets of a run", "layer", "seeds", "parameters", "training of a run", "hardware", "threads"]
    table = Table("Models", header, is_numeric=False)
    for (name, targets, layer), members in groups.items():
        cells = [
            name,
            targets,
            layer,
            ", ".join(str(seed) for seed in sorted(run.seed for run in members)),
            _each(_parameters(run.results.get("parameters")) for run in members),
            _time(members),
            _each(_hardware(run.record.get("hardware")) for run in members),
            _each(str(run.record.get("threads", UNKNOWN)) for run in members),
        ]
        table.rows.append([Cell(cell) for cell in cells])
    return table


def commands(runs: Sequence[Run]) -> dict[str, list[str]]:
    """The distinct commands of each model."""
    found: dict[str, dict[str, None]] = {}
    for run in runs:
        command = run.record.get("command")
        line = " ".join(command.split()) if isinstance(command, str) and command.strip() else f"# {UNKNOWN}"
        found.setdefault(run.model, {})[line] = None
    return {name: list(lines) for name, lines in found.items()}


def versions_line(runs: Sequence[Run]) -> str:
    """The versions of what was used, one sentence; several where runs differ."""
    found: dict[str, None] = {}
    for run in runs:
        versions = run.record.get("versions")
        if isinstance(versions, dict):
            listed = ", ".join(f"{name} {version}" for name, version in versions.items() if name != "machine")
            found[listed] = None
    return f"Versions: {'; or '.join(found) if found else UNKNOWN}."


def _each(values: Any) -> str:
    """The distinct ones of some texts."""
    return "; ".join(dict.fromkeys(values))


def _parameters(parameters: Any) -> str:
    if isinstance(parameters, Mapping):
        return ", ".join(f"{name} {count:,}" if isinstance(count, int) else name for name, count in parameters.items())
    return f"{parameters:,}" if isinstance(parameters, int) else UNKNOWN


def _time(runs: Sequence[Run]) -> str:
    seconds = [run.results.get("train_seconds") for run in runs]
    known = [float(value) for value in seconds if isinstance(value, int | float)]
    if not known:
        return UNKNOWN
    mean = statistics.fmean(known)
    return f"{mean:.0f} s" if mean < 120 else f"{mean / 60:.0f} min"


def _hardware(hardware: Any) -> str:
    """As `training.hardware.hardware` records it, or any text."""
    if isinstance(hardware, str) and hardware:
        return hardware
    if not isinstance(hardware, Mapping) or "cpu" not in hardware:
        return UNKNOWN
    gpu = f", {hardware['gpu']}" if hardware.get("gpu") else ""
    return f"{hardware['cpu']}, {hardware.get('cores', '?')} cores{gpu}"

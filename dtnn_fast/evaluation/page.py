# SPDX-License-Identifier: MIT
"""The page of results: models compared, all tables and figures, and the commands of all runs."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .evaluation import Evaluation
from .runs import Run
from .tables import Cell, ErrorTable, layer_table, metric_table, overview_table, ratio_table, system_table, to_markdown

UNKNOWN = "not recorded"


def run_table(runs: Sequence[Run]) -> ErrorTable:
    """One row for each model, set of targets and encoder layer."""
    groups: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        layer = "-" if run.layer is None else str(run.layer)
        groups.setdefault((run.model, ", ".join(run.predictions.expected), layer), []).append(run)
    header = ["model", "targets of a run", "layer", "seeds", "parameters", "training of a run", "hardware", "threads"]
    table = ErrorTable("Models", header, is_numeric=False)
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


_INTRODUCTION = """\
Errors on test crystals: mean and standard deviation over {splits} random splits of {count} labelled crystals, with
the same crystals and tensors for every model, which is checked. A tenth is for testing, a tenth for validation (ids
sorted, `numpy.random.RandomState(seed).permutation(n)`, seeds {seeds}).

- MAE_ten is the mean absolute error over the six unique elements of the tensor; the best is in bold.
- A few crystals with huge tensors move the means, so the median over the test crystals is given too.
- "training median" always predicts the median of the training tensors, element by element.
- Of models trained on several encoder layers, the layer with the lowest validation error is listed. Test crystals
  decide nothing."""


def write_page(
    path: Path,
    evaluation: Evaluation,
    pictures: Sequence[tuple[str, Path]],
    command: str,
    notes: Path | None = None,
) -> None:
    """Write the page.

    Args:
        path: Markdown file to write; its folder is made when absent.
        evaluation: results to report.
        pictures: title and path of each figure.
        command: command line that writes the page.
        notes: Markdown file that the page links at its top, with what run folders do not record, such as how settings
            were chosen.
    """
    seeds = sorted({run.seed for run in evaluation.runs})
    parts = ["# Results"]
    if notes is not None:
        parts.append(f"How settings were chosen, and what the figures mean: [{notes.name}]({_link(notes, path)}).")
    parts.append(_INTRODUCTION.format(splits=len(seeds), count=len(evaluation.data), seeds=", ".join(map(str, seeds))))
    parts += [*_sections(evaluation, path, pictures), *_provenance(evaluation)]
    parts.append(f"This page and its figures are written by:\n\n```\n{command}\n```")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _link(target: Path, page: Path) -> str:
    """Give the address of a file relative to the page that links it."""
    return Path(os.path.relpath(target, page.parent)).as_posix()


def tables(evaluation: Evaluation) -> list[tuple[str, list[ErrorTable]]]:
    """All tables of errors by section."""
    found = [
        ("All crystals", [overview_table(evaluation.errors, evaluation.targets)]),
        ("Crystal systems", [system_table(evaluation.errors, target) for target in evaluation.targets]),
        ("The four errors", [metric_table(evaluation.errors, target) for target in evaluation.targets]),
    ]
    if evaluation.ratios:
        found.append(("Against the best baseline", [ratio_table(evaluation.ratios)]))
    if evaluation.ablations:
        found.append(("Encoder layers", [layer_table(name, errors) for name, errors in evaluation.ablations.items()]))
    return found


def _sections(evaluation: Evaluation, path: Path, pictures: Sequence[tuple[str, Path]]) -> Iterable[str]:
    for title, members in tables(evaluation):
        yield f"## {title}"
        yield from (to_markdown(table) for table in members)
    if pictures:
        yield "## Figures\n\nThe numbers are beside each picture as CSV."
    for title, picture in pictures:
        yield f"{title}:\n\n![{title}]({_link(picture, path)})"


def _provenance(evaluation: Evaluation) -> Iterable[str]:
    yield "## Runs"
    yield to_markdown(run_table(evaluation.runs))
    for name, lines in commands(evaluation.runs).items():
        yield f"{name}:\n\n```\n" + "\n".join(lines) + "\n```"
    yield versions_line(evaluation.runs)
    if evaluation.rejected:
        listed = [f"- `{left.source}`: {left.reason}" for left in evaluation.rejected]
        yield "## Left out\n\n" + "\n".join(listed)

# SPDX-License-Identifier: MIT
"""The page of results: models compared, all tables and figures, and the commands of all runs."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .error_table import Cell, ErrorTable, to_markdown
from .evaluation import Evaluation
from .runs import Run
from .tables import tables_by_section

_NOT_RECORDED = "not recorded"

_INTRODUCTION = """\
Errors on test crystals: mean and standard deviation over {splits} random splits of {count} labelled crystals, with
the same crystals and tensors for every model, which is checked. A tenth is for testing, a tenth for validation
({rule}, seeds {seeds}).

- MAE_ten is the mean absolute error over the six unique elements of the tensor; the best is in bold.
- A few crystals with huge tensors move the means, so the median over the test crystals is given too.
- "training median" always predicts the median of the training tensors, element by element.
- Of models trained on several encoder layers, the layer with the lowest validation error is listed. Test crystals
  decide nothing."""


_SPLIT_RULES = {
    "crystals": "ids sorted, `numpy.random.RandomState(seed).permutation(n)`",
    "structures": "crystals of the same structure stay in one part",
    "systems": "crystals of a chemical system stay in one part, so that test systems were never seen",
}


def write_page(
    path: Path,
    evaluation: Evaluation,
    pictures: Sequence[tuple[str, Path]],
    command: str,
    notes: Path | None = None,
) -> None:
    """Write the page.

    Args:
        path: Markdown file to write; its folder is created if missing.
        evaluation: results to report.
        pictures: title and path of each figure.
        command: command line that writes the page.
        notes: Markdown file that the page links at its top, with what run folders do not record, such as how settings
            were chosen.
    """
    seeds = sorted({run.seed for run in evaluation.runs})
    blocks = ["# Results"]
    if notes is not None:
        blocks.append(f"How settings were chosen, and what the figures mean: [{notes.name}]({_link(notes, path)}).")
    rule = _SPLIT_RULES[evaluation.data.split_by]
    listed = ", ".join(map(str, seeds))
    blocks.append(_INTRODUCTION.format(splits=len(seeds), count=len(evaluation.data), rule=rule, seeds=listed))
    blocks += [*_results(evaluation, path, pictures), *_provenance(evaluation)]
    blocks.append(f"This page and its figures are written by:\n\n```bash\n{command}\n```")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")


def _link(target: Path, page: Path) -> str:
    """Give the address of a file relative to the page that links it."""
    return Path(os.path.relpath(target, page.parent)).as_posix()


def _results(evaluation: Evaluation, path: Path, pictures: Sequence[tuple[str, Path]]) -> Iterable[str]:
    for title, tables in tables_by_section(evaluation).items():
        yield f"## {title}"
        yield from (to_markdown(table) for table in tables)
    if pictures:
        yield "## Figures\n\nThe numbers are beside each picture as CSV."
    for title, picture in pictures:
        yield f"{title}:\n\n![{title}]({_link(picture, path)})"


def _provenance(evaluation: Evaluation) -> Iterable[str]:
    yield "## Runs"
    yield to_markdown(_run_table(evaluation.runs))
    for name, commands in _commands(evaluation.runs).items():
        yield f"{name}:\n\n```bash\n" + "\n".join(commands) + "\n```"
    yield _versions_sentence(evaluation.runs)
    if evaluation.rejected:
        listed = [f"- `{reject.source}`: {reject.reason}" for reject in evaluation.rejected]
        yield "## Left out\n\n" + "\n".join(listed)


def _run_table(runs: Sequence[Run]) -> ErrorTable:
    """Make a table with a row for each model, set of targets and encoder layer."""
    groups: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        layer = "-" if run.layer is None else str(run.layer)
        groups.setdefault((run.model, ", ".join(run.predictions.expected), layer), []).append(run)
    header = ["model", "targets", "layer", "seeds", "parameters", "training time per run", "hardware", "threads"]
    table = ErrorTable("Models", header, is_numeric=False)
    for (name, targets, layer), group in groups.items():
        cells = [
            name,
            targets,
            layer,
            ", ".join(str(seed) for seed in sorted(run.seed for run in group)),
            _join_distinct(_parameters(run.results_json.get("parameters")) for run in group),
            _mean_training_time(group),
            _join_distinct(_hardware(run.settings_json.get("hardware")) for run in group),
            _join_distinct(str(run.settings_json.get("threads", _NOT_RECORDED)) for run in group),
        ]
        table.rows.append([Cell(cell) for cell in cells])
    return table


def _commands(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Collect the distinct commands of each model."""
    by_model: dict[str, dict[str, None]] = {}
    for run in runs:
        command = run.settings_json.get("command")
        line = " ".join(command.split()) if isinstance(command, str) and command.strip() else f"# {_NOT_RECORDED}"
        by_model.setdefault(run.model, {})[line] = None
    return {name: list(lines) for name, lines in by_model.items()}


def _versions_sentence(runs: Sequence[Run]) -> str:
    """List the versions of the packages that runs used; several lists where runs differ."""
    lists: dict[str, None] = {}
    for run in runs:
        versions = run.settings_json.get("versions")
        if isinstance(versions, dict):
            listed = ", ".join(f"{name} {version}" for name, version in versions.items() if name != "machine")
            lists[listed] = None
    return f"Versions: {'; or '.join(lists) if lists else _NOT_RECORDED}."


def _join_distinct(values: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(values))


def _parameters(parameters: Any) -> str:
    if isinstance(parameters, Mapping):
        return ", ".join(f"{name} {count:,}" if isinstance(count, int) else name for name, count in parameters.items())
    return f"{parameters:,}" if isinstance(parameters, int) else _NOT_RECORDED


def _mean_training_time(runs: Sequence[Run]) -> str:
    seconds = [run.results_json.get("train_seconds") for run in runs]
    known = [float(value) for value in seconds if isinstance(value, int | float)]
    if not known:
        return _NOT_RECORDED
    mean = statistics.fmean(known)
    return f"{mean:.0f} s" if mean < 120 else f"{mean / 60:.0f} min"


def _hardware(hardware: Any) -> str:
    """Format what `training.run_folder.hardware` records; a text is kept."""
    if isinstance(hardware, str) and hardware:
        return hardware
    if not isinstance(hardware, Mapping) or "cpu" not in hardware:
        return _NOT_RECORDED
    gpu = f", {hardware['gpu']}" if hardware.get("gpu") else ""
    return f"{hardware['cpu']}, {hardware.get('cores', '?')} cores{gpu}"

# SPDX-License-Identifier: MIT
"""The page of results: what was compared, all tables and figures, and how each run was made."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from .evaluation import Evaluation
from .markdown import to_markdown
from .provenance import commands, run_table, versions_line
from .tables import Table, layer_table, metric_table, overview_table, ratio_table, system_table

_INTRODUCTION = """# Results

Errors on test crystals, as mean and standard deviation over {splits} random splits of {count} labelled crystals: a
tenth for testing, a tenth for validation (ids sorted, `numpy.random.RandomState(seed).permutation(n)`, seeds {seeds}).
Every model was tested on the same crystals and tensors, which is checked. MAE_ten is the mean absolute error over the
six unique elements of the tensor; the best is in bold. A few crystals with huge tensors move the means, so the
median over the test crystals is given too. "training median" always predicts the median of the training tensors,
element by element. Where a model was trained on several encoder layers, the one with the lowest validation error stands
here; test crystals decide nothing."""


def write_page(
    path: Path, evaluation: Evaluation, pictures: Sequence[tuple[str, Path]], command: str, notes: str = ""
) -> None:
    """Write the page.

    Args:
        path: of the Markdown file; its folder is made when absent.
        evaluation: what to report.
        pictures: a title and the path of each.
        command: that writes the page.
        notes: Markdown that follows the introduction: what no record can know, such as how settings were chosen.
    """
    seeds = sorted({run.seed for run in evaluation.runs})
    introduction = _INTRODUCTION.format(splits=len(seeds), count=len(evaluation.data), seeds=", ".join(map(str, seeds)))
    parts = [introduction, notes.strip(), *_sections(evaluation, path, pictures), *_provenance(evaluation)]
    parts.append(f"This page and its figures are written by:\n\n```\n{command}\n```")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")


def tables(evaluation: Evaluation) -> list[tuple[str, list[Table]]]:
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
        yield "## Figures"
    for title, picture in pictures:
        place = Path(os.path.relpath(picture, path.parent)).as_posix()
        yield f"{title}; numbers beside the picture as CSV.\n\n![{title}]({place})"


def _provenance(evaluation: Evaluation) -> Iterable[str]:
    yield "## Runs"
    yield to_markdown(run_table(evaluation.runs))
    for name, lines in commands(evaluation.runs).items():
        yield f"{name}:\n\n```\n" + "\n".join(lines) + "\n```"
    yield versions_line(evaluation.runs)
    if evaluation.rejected:
        listed = [f"- `{left.source}`: {left.reason}" for left in evaluation.rejected]
        yield "## Left out\n\n" + "\n".join(listed)

# SPDX-License-Identifier: MIT
"""What evaluate does with a model instead of runs: textbook crystals, and files of labelled crystals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..errors import DTNNError
from .console import command_line, counted, stderr, stdout
from .error_tables import print_tables
from .options import BUNDLED_LATTICE, BUNDLED_MODEL, describe, exit_with, load_model, require_some

if TYPE_CHECKING:
    from ..crystals.crystal import Crystal, Rejected
    from ..evaluation.error_table import ErrorTable
    from ..evaluation.labelled import LabelledEvaluation
    from ..model.predictor import Predictor
    from ..refinement.refiner import Refinement

REJECTED_FILE, TEXTBOOK_FILE, LABELLED_FILE = "rejected.csv", "textbook.csv", "labelled.csv"
REFINED_FILE = "refined.csv"


def evaluate_on_textbook(
    model: str, lattice: str | None, output: Path, markdown: Path | None, threads: int | None, device: str
) -> None:
    """Predict the textbook crystals, refine them by a lattice model, and print and write their table.

    Without `lattice`, the bundled model is refined by its own; other models are not refined.
    """
    predictor = load_model(model, threads, device, "evaluate")
    from ..evaluation.textbook import evaluate_textbook, textbook_tables, write_textbook

    name = model if lattice is None else f"{model}, refined by {lattice}"
    if lattice is None and model == BUNDLED_MODEL:
        lattice = BUNDLED_LATTICE
    refined = [] if lattice is None else _refine_textbook(predictor, model, lattice, device)
    evaluation = evaluate_textbook(predictor, name, refined={one.crystal.id: one.ionic for one in refined})
    if not evaluation.predictions:
        require_some(0, evaluation.rejected, "the textbook crystals")
    output.mkdir(parents=True, exist_ok=True)
    write_textbook(output / TEXTBOOK_FILE, evaluation)
    tables = textbook_tables(evaluation)
    if refined:
        tables.append(_instability_table(refined))
    _finish("Textbook crystals", tables, evaluation.rejected, output, [TEXTBOOK_FILE], markdown)


def _refine_textbook(predictor: Predictor, model: str, lattice: str, device: str) -> list[Refinement]:
    """Refine the textbook crystals; say which are not."""
    from ..datasets.textbook_crystals import load_textbook

    crystals = [one.crystal for one in load_textbook()]
    refined, rejected = _refine(predictor, model, lattice, device, crystals)
    for reject in rejected:
        stderr().print(f"not refined: {describe(reject)}")
    return refined


def _refine(
    predictor: Predictor, model: str, lattice: str, device: str, crystals: Sequence[Crystal]
) -> tuple[list[Refinement], list[Rejected]]:
    from ..crystals.crystal import Rejected
    from ..refinement.bundled_refiner import load_refiner

    try:
        refiner = load_refiner(predictor, model, lattice, device=device)
    except ValueError as error:
        raise typer.BadParameter(str(error).removeprefix("Refiner: "), param_hint="--model") from error
    refined: list[Refinement] = []
    rejected: list[Rejected] = []
    for result in refiner.refine(crystals):
        if isinstance(result, Rejected):
            rejected.append(result)
        else:
            refined.append(result)
    return refined, rejected


def _instability_table(refined: Sequence[Refinement]) -> ErrorTable:
    """Compare the crystals that refine marks with those that are known to be close to a ferroelectric instability."""
    from ..datasets.textbook_crystals import load_textbook
    from ..evaluation.error_table import Cell, ErrorTable

    marked = {one.crystal.id for one in refined if one.is_unstable or one.is_nearly_ferroelectric}
    known = {one.crystal.id for one in load_textbook() if one.near_instability}
    rows = [
        ("known and marked", known & marked),
        ("known, not marked", known - marked),
        ("marked only", marked - known),
    ]
    return ErrorTable(
        "Close to an instability, as refine marks it",
        ["which", "crystals"],
        [[Cell(what), Cell(", ".join(sorted(ids)) or "-")] for what, ids in rows],
        is_numeric=False,
    )


def evaluate_on_labelled(
    files: Sequence[Path],
    model: str,
    lattice: str | None,
    output: Path,
    markdown: Path | None,
    clean: bool,
    threads: int | None,
    device: str,
) -> None:
    """Predict labelled crystals, refine them where a lattice model is given; print and write the errors."""
    predictor = load_model(model, threads, device, "evaluate")
    from ..evaluation.labelled import evaluate_labelled, labelled_tables, write_labelled
    from ..screening.sources import open_source

    found = open_source(files, predictor.elements)
    if found.notice:
        stderr().print(found.notice)
    evaluation = evaluate_labelled(predictor, [*found.rejected, *found.read()], model, clean)
    if not evaluation.crystals:
        first = evaluation.rejected[0] if evaluation.rejected else None
        reason = f": {first.source or first.id}: {first.reason}" if first else ""
        raise DTNNError(f"evaluate: no labelled crystal in {', '.join(map(str, files))}{reason}")
    tables, rejected, written = labelled_tables(evaluation), list(evaluation.rejected), [LABELLED_FILE]
    refined = None
    if lattice is not None:
        refined, not_refined = _refine_labelled(evaluation, predictor, lattice, device)
        tables += labelled_tables(refined)
        rejected += not_refined
        written.append(REFINED_FILE)
    output.mkdir(parents=True, exist_ok=True)
    write_labelled(output / LABELLED_FILE, evaluation)
    if refined is not None:
        write_labelled(output / REFINED_FILE, refined)
    stderr().print(f"{counted(len(evaluation.crystals), 'labelled crystal')} predicted")
    _finish("Labelled crystals", tables, rejected, output, written, markdown)


def _refine_labelled(
    evaluation: LabelledEvaluation, predictor: Predictor, lattice: str, device: str
) -> tuple[LabelledEvaluation, list[Rejected]]:
    """Refine labelled crystals; the second result says which are not refined."""
    from ..crystals.crystal import Rejected
    from ..evaluation.labelled import label_functional, refined_evaluation

    refined: list[Refinement] = []
    rejected: list[Rejected] = []
    functionals = [label_functional(crystal, predictor) for crystal in evaluation.crystals]
    for name in dict.fromkeys(functionals):
        of_functional = [c for c, known in zip(evaluation.crystals, functionals, strict=True) if known == name]
        done, failed = _refine(predictor.with_functional(name), evaluation.model, lattice, device, of_functional)
        refined += done
        rejected += failed
    tensors = {
        "ionic": {one.crystal.id: one.ionic for one in refined},
        "total": {one.crystal.id: one.total for one in refined},
    }
    bars = {
        "ionic": {one.crystal.id: one.ionic_mean_error for one in refined if one.ionic_mean_error is not None},
        "total": {one.crystal.id: one.total_mean_error for one in refined if one.total_mean_error is not None},
    }
    # Of all crystals, or of none where nothing joins the two tensors.
    bars = {target: by_id for target, by_id in bars.items() if len(by_id) == len(refined) > 0}
    name = f"{evaluation.model}, refined by {lattice}"
    marked = [Rejected(one.id, one.source, f"not refined: {one.reason}") for one in rejected]
    return refined_evaluation(evaluation, name, tensors, bars), marked


def _finish(
    title: str,
    tables: Sequence[ErrorTable],
    rejected: Sequence[Rejected],
    output: Path,
    names: Sequence[str],
    markdown: Path | None,
) -> None:
    """Write rejected.csv and the page, print the tables, and end with the exit code."""
    from ..crystals.crystal import write_rejected
    from ..evaluation.error_table import to_markdown

    write_rejected(output / REJECTED_FILE, rejected)
    if markdown is not None:
        blocks = [f"# {title}", *(to_markdown(table, level=2) for table in tables)]
        blocks.append(f"This page is written by:\n\n```bash\n{command_line()}\n```")
        markdown.parent.mkdir(parents=True, exist_ok=True)
        markdown.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
    print_tables(stdout(), tables)
    stdout().print(
        f"results: {', '.join(map(str, [*(output / name for name in names), *([markdown] if markdown else [])]))}"
    )
    exit_with(rejected, f"see {output / REJECTED_FILE}")

# SPDX-License-Identifier: MIT
"""The files that a finished screening gets beside its parts: ranking, rejected crystals, figure and summary."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..errors import BadFileError, DTNNError
from . import SOME_REJECTED, STOPPED
from .console import command_line, stderr, stdout
from .options import describe
from .ranking_options import RANKING_FILE, UNRANKED_FILE, warn_few, write_and_print

if TYPE_CHECKING:
    from ..screening.input_chunks import ScreeningInput
    from ..screening.parts import Parts
    from ..screening.ranking import RankingRules

REJECTED_FILE, PLOT_FILE, SUMMARY_FILE = "rejected.csv", "plot.png", "summary.json"
RESULT_FILES = (RANKING_FILE, UNRANKED_FILE, REJECTED_FILE, PLOT_FILE, SUMMARY_FILE)


@dataclass(frozen=True)
class ScreeningResults:
    """What the files of a screening are made of.

    Args:
        parts: its folder.
        model: name of the model.
        rules: how crystals are ranked.
        top: number of printed crystals.
        find_duplicates: whether duplicates are marked first.
        inputs: what was screened.
        facts: more entries of summary.json; `stopped` is one of them.
    """

    parts: Parts
    model: str
    rules: RankingRules
    top: int
    find_duplicates: bool
    inputs: ScreeningInput
    facts: Mapping[str, Any]


def require_all(parts: Parts, inputs: ScreeningInput) -> None:
    """Check that all chunks of an input are screened; see `require_all_chunks`."""
    from ..screening.finish import require_all_chunks

    require_all_chunks(parts, len(inputs.chunks))


def refuse_nothing(inputs: ScreeningInput, paths: Sequence[Path]) -> None:
    from ..formats.reading import known_file_names

    if inputs.rejected:
        more = f" (and {len(inputs.rejected) - 1} more)" if len(inputs.rejected) > 1 else ""
        raise DTNNError(f"nothing could be predicted: {describe(inputs.rejected[0])}{more}")
    raise DTNNError(f"no crystals found in {', '.join(map(str, paths))}: expected files named {known_file_names()}")


def write_results(results: ScreeningResults) -> None:
    """Write all files beside the parts, print the first ranks, and end with the exit code.

    Args:
        results: of the screening.

    Raises:
        DTNNError: nothing was predicted, or the ranking fails.
        typer.Exit: 3 where crystals were rejected, 130 where it was stopped.
    """
    from ..screening.finish import find_unmatched, make_ids_unique, mark_duplicates, write_rejected_csv
    from ..screening.ranking import open_ranking
    from ..screening.screening_plot import plot_screening

    folder, files = results.parts.folder, results.parts.part_files()
    # Not before all parts are there: otherwise the suffixes would depend on what was done first.
    renamed = 0 if results.facts["stopped"] else make_ids_unique(files)
    if renamed:
        stderr().print(f"{renamed:,} ids occur more than once; the repeated ones got a suffix such as #2")
    # Not where it was stopped: the crystals that are left may have these ids.
    unmatched = [] if results.facts["stopped"] else find_unmatched(results.inputs, results.parts)
    for table in unmatched:
        stderr().print(str(table), style="yellow")
    num_rejected = write_rejected_csv(folder / REJECTED_FILE, results.parts, results.inputs.rejected)
    if results.find_duplicates and mark_duplicates(files) is None:
        stderr().print("duplicates were not searched for: pymatgen is not installed (pip install 'dtnn-fast[io]')")
    if not files:
        raise typer.Exit(STOPPED)
    with _keeping_predictions(folder), open_ranking([folder], results.rules) as ranking:
        num_predicted = ranking.count_all()
        if not num_predicted:
            if results.facts["stopped"]:
                raise typer.Exit(STOPPED)
            _refuse_all(results, num_rejected)
        written = write_and_print(ranking, folder, results.top)
        warn_few(ranking)
        plot_screening(folder / PLOT_FILE, ranking)
        summary = {
            "command": command_line(),
            "model": results.model,
            "targets": list(ranking.targets),
            "sorted_by": ranking.value_name,
            "lowest_first": results.rules.lowest_first,
            "rank_unreliable": results.rules.rank_unreliable,
            "predicted": num_predicted,
            "ranked": ranking.count(),
            "not_ranked": ranking.reasons(),
            "rejected": num_rejected,
            "warnings": ranking.warning_counts(),
            "ids_without_crystal": {table.table: table.num_unmatched for table in unmatched},
            **results.facts,
        }
    _write_summary(folder / SUMMARY_FILE, summary)
    others = [folder / name for name in (REJECTED_FILE, PLOT_FILE, SUMMARY_FILE)]
    parts_text = str(files[0]) if len(files) == 1 else f"{folder / 'part-*.parquet'} ({len(files)})"
    stdout().print(f"results: {', '.join([parts_text, *map(str, [*written, *others])])}")
    if results.facts["stopped"]:
        raise typer.Exit(STOPPED)
    if num_rejected:
        stderr().print(f"{num_rejected:,} rejected: see {folder / REJECTED_FILE}", style="yellow")
        raise typer.Exit(SOME_REJECTED)


@contextmanager
def _keeping_predictions(folder: Path) -> Iterator[None]:
    """Say that nothing is lost where a ranking fails, for example by a column that no source has."""
    from ..screening.ranking import RankingError

    try:
        yield
    except RankingError as error:
        raise DTNNError(f"{error}\nThe predictions are in {folder}: rank them with dtnn-fast rank {folder}") from error
    except OSError as error:
        raise BadFileError(
            f"{error.filename or folder}: results cannot be written: {error.strerror or error}. The predictions are "
            f"kept in {folder}: free space and run the same command again"
        ) from error


def _refuse_all(results: ScreeningResults, num_rejected: int) -> None:
    """Say why nothing was predicted.

    Raises:
        DTNNError: always.
    """
    from itertools import chain

    from ..formats.reading import known_file_names
    from ..screening.finish import rejected_of

    first = next(chain(results.inputs.rejected, rejected_of(results.parts)), None)
    if first is None:
        raise DTNNError(f"no crystals found: expected files named {known_file_names()}")
    more = f" (and {num_rejected - 1} more)" if num_rejected > 1 else ""
    raise DTNNError(f"nothing could be predicted: {describe(first)}{more}")


def _write_summary(path: Path, summary: dict[str, Any]) -> None:
    import torch

    from ..files import replacing
    from ..training.run_folder import versions

    content = {**summary, "threads": torch.get_num_threads(), "versions": versions()}
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

# SPDX-License-Identifier: MIT
"""Screening from Python: the parts and the ranking of the command, as a table in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..crystals.convert import to_crystals
from ..errors import DTNNError
from ..formats.file_ids import RepeatedIds
from ..model.load_predictor import load_predictor
from ..model.predictor import Predictor
from .finish import make_ids_unique, mark_duplicates, require_all_chunks
from .input_chunks import ScreeningInput, plan_bundled, plan_crystals, plan_files
from .parts import num_rows
from .ranking import RankingRules, open_ranking
from .screening_run import ScreeningOptions, make_manifest, output_parts, run_screening

if TYPE_CHECKING:
    import pyarrow


def screen(
    source: Any = None,
    model: str | Path | Predictor = "dielectric",
    output: Path | str | None = None,
    where: str | None = None,
    by: str | None = None,
    rules: RankingRules | None = None,
    options: ScreeningOptions | None = None,
) -> pyarrow.Table:
    """Predict and rank crystals; the same as ``dtnn-fast screen``.

    Args:
        source: a file or folder, a list of them, or structures in memory (pymatgen, ASE, `Crystal`); None for the
            bundled crystals that can be insulators.
        model: name or folder of a model, or a loaded one.
        output: folder that keeps the part files; an interrupted screening in it is continued. None for a temporary
            folder.
        where: an SQL condition over the columns, for example ``"e_above_hull < 0.05 and nsites <= 20"``.
        by: a column or an SQL expression to rank by; None for the figure of merit, see `RankingRules`.
        rules: all rules of the ranking; `where` and `by`, if given, replace those in `rules`.
        options: how the screening runs; see `ScreeningOptions`.

    Returns:
        A `pyarrow.Table` of the ranked crystals with the columns of the part files (docs/screening.md) and ``rank``,
        best first; ``.to_pandas()`` makes a data frame. Its metadata has the numbers of rejected and of unranked
        crystals. `rejected-*.parquet` in `output` has the reasons for rejections.

    Raises:
        DTNNError: nothing could be predicted, or an expression is wrong.
        MissingPackageError: pyarrow or duckdb is not installed.

    Example:
        >>> import dtnn_fast
        >>> table = dtnn_fast.screen("my_cifs", where="nsites <= 20", output="screening")
        >>> table.select(["id", "formula", "total_mean"]).slice(0, 10).to_pandas()
    """
    predictor = model if isinstance(model, Predictor) else load_predictor(str(model))
    name = type(model).__name__ if isinstance(model, Predictor) else str(model)
    options = options or ScreeningOptions()
    rules = rules or RankingRules()
    rules = replace(rules, where=where or rules.where, by=by or rules.by)
    inputs, paths = _plan(source, predictor, None if output is None else Path(output))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()) if output is None else output)
        parts = output_parts(folder)
        stack.enter_context(parts.locked(options.shard.name))
        parts.begin(make_manifest(predictor, name, inputs, paths, options, "dtnn_fast.screen"))
        counts = run_screening(predictor, name, inputs, parts, options)
        if counts.stopped:
            raise KeyboardInterrupt
        files = parts.part_files()
        if options.shard.of == 1:
            require_all_chunks(parts, len(inputs.chunks))
            make_ids_unique(files)
            mark_duplicates(files)
        num_rejected = len(inputs.rejected) + sum(num_rows(file) for file in parts.rejected_files())
        if not files or not any(map(num_rows, files)):
            raise DTNNError(f"nothing could be predicted: {_first_reason(inputs, parts)}")
        ranking = stack.enter_context(open_ranking([folder], rules))
        return ranking.table({"rejected": str(num_rejected), "not_ranked": str(ranking.count_unranked())})


def _plan(source: Any, predictor: Predictor, output: Path | None) -> tuple[ScreeningInput, list[str]]:
    if source is None:
        return plan_bundled(predictor.elements), []
    if isinstance(source, str | Path):
        source = [source]
    if isinstance(source, Iterable) and not hasattr(source, "lattice") and not hasattr(source, "cell"):
        given = list(source)
        if given and all(isinstance(one, str | Path) for one in given):
            return plan_files([Path(one) for one in given], output), list(map(str, given))
        source = given
    # Structures without names are numbered; equal names get a suffix.
    repeated = RepeatedIds()
    return plan_crystals([repeated.rename(crystal) for crystal in to_crystals(source)]), []


def _first_reason(inputs: ScreeningInput, parts: Any) -> str:
    from .finish import rejected_of

    for one in (*inputs.rejected, *rejected_of(parts)):
        return f"{one.source or one.id}: {one.reason}"
    return "there are no crystals"

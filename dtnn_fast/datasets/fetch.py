# SPDX-License-Identifier: MIT
"""Fetch labelled crystals from a public source, choose the usable ones, and record where they came from."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from .. import __version__
from ..crystals.crystal import Crystal
from ..errors import DTNNError
from ..files import OnProgress
from .cleaning import LARGEST_VIOLATION, SelectionRules, select_crystals
from .label_cleaning import select_partially_labelled
from .sources.calculations import PHONOPY, VASP, fetch_phonopy, fetch_vasp
from .sources.jarvis import JARVIS, fetch_jarvis
from .sources.materials_project import MATERIALS_PROJECT, OpenClient, fetch_materials_project
from .sources.matminer import MATMINER, fetch_matminer
from .sources.paper import PAPER, fetch_paper
from .sources.source import DataSource, DroppedRow, SourceRows, count_dropped

# Each source of labelled crystals by the name that `dtnn-fast data fetch` takes.
DATA_SOURCES = {source.name: source for source in (MATERIALS_PROJECT, MATMINER, PAPER, JARVIS, PHONOPY, VASP)}
# Sources whose rows may have only some of the labels.
_PARTIAL = (PHONOPY, VASP)


class FetchRequest(NamedTuple):
    """A source to fetch, and how.

    Args:
        source: one of `DATA_SOURCES`.
        folder: folder that keeps downloads.
        file: a local copy to read instead of a download; the sources "paper", "phonopy" and
            "vasp" need it, "mp" takes none.
        limit: maximum number of rows, or None for all.
        on_progress: see `files.OnProgress`.
        open_client: opens the client of the Materials Project.
    """

    source: DataSource
    folder: Path
    file: Path | None = None
    limit: int | None = None
    on_progress: OnProgress | None = None
    open_client: OpenClient | None = None


class FetchedSet(NamedTuple):
    """The crystals that are kept, the rows that are dropped, and the provenance for `packed_set.write_packed`."""

    kept: list[Crystal]
    dropped: list[DroppedRow]
    provenance: dict[str, Any]


def fetch_set(request: FetchRequest, rules: SelectionRules) -> FetchedSet:
    """Fetch labelled crystals and choose the ones that can be trained on.

    Args:
        request: what to fetch.
        rules: the rules for keeping a crystal.

    Returns:
        Crystals with tensors in the frame of their cell, and the provenance that is needed to fetch them again.

    Raises:
        DTNNError: the source cannot be read (`FetchError`, `BadFileError` or `MissingPackageError`), or the request
            does not fit the source.

    Example:
        >>> request = FetchRequest(DATA_SOURCES["matminer"], Path("downloads"))
        >>> data = fetch_set(request, SelectionRules(encoder="sevennet-0"))
        >>> write_packed(Path("petousis.npz"), data.kept, data.provenance)
    """
    started = datetime.now(UTC)
    fetched = _fetch_rows(request)
    source = request.source
    rows = _with_progress(fetched, request)
    if source in _PARTIAL:
        kept, dropped = select_partially_labelled(rows, rules.encoder)
    else:
        kept, dropped = select_crystals(rows, rules)
    provenance = {
        "source": source.name,
        "title": source.title,
        "licence": source.licence,
        "cite": list(source.cite),
        **fetched.provenance,
        "date": started.isoformat(timespec="seconds"),
        "dtnn_fast": __version__,
        "encoder": rules.encoder,
        "tensor_range": None if rules.tensor_range is None else list(rules.tensor_range),
        "frame_of_source": rules.frame.value,
        "largest_symmetry_violation": LARGEST_VIOLATION if rules.check_symmetry else None,
        "kept": len(kept),
        "dropped": count_dropped(dropped),
    }
    return FetchedSet(kept, dropped, provenance)


def _fetch_rows(request: FetchRequest) -> SourceRows:
    source, folder, file, limit, on_progress, open_client = request
    if source is MATERIALS_PROJECT:
        if file is not None:
            raise DTNNError("the source mp takes no file: it queries the Materials Project")
        return fetch_materials_project(limit, on_progress, open_client, folder)
    if source is PAPER:
        if file is None:
            raise DTNNError(
                "the source paper needs a file: the paper's repository has the code that reads mp_dielectric.json, but "
                "not the file itself; without it, fetch the crystals from mp"
            )
        return fetch_paper(file, limit)
    if source in _PARTIAL:
        if file is None:
            raise DTNNError(f"the source {source.name} needs --file: a calculation, or a folder of calculations")
        return fetch_phonopy(file, limit) if source is PHONOPY else fetch_vasp(file, limit)
    if source is JARVIS:
        return fetch_jarvis(folder, file, limit, on_progress)
    assert source is MATMINER
    return fetch_matminer(folder, file, limit, on_progress)


def _with_progress(fetched: SourceRows, request: FetchRequest) -> Iterator[Crystal | DroppedRow]:
    """Yield the rows, and report each after it has been judged."""
    for number, row in enumerate(fetched.rows, start=1):
        yield row
        if request.on_progress is not None:
            request.on_progress("rows", number, fetched.provenance["rows"])

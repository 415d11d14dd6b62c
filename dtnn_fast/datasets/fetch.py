# SPDX-License-Identifier: MIT
"""Fetch a source, choose its crystals, and say where they came from."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from .. import __version__
from ..crystals.crystal import Crystal
from ..errors import DTNNError
from ..files import OnProgress
from .cleaning import LARGEST_VIOLATION, Selection, select
from .sources.jarvis import fetch_jarvis
from .sources.materials_project import OpenClient, fetch_materials_project
from .sources.matminer import fetch_matminer
from .sources.paper import fetch_paper
from .sources.source import JARVIS, MATERIALS_PROJECT, MATMINER, PAPER, Dropped, Fetched, Source, count_dropped


class Request(NamedTuple):
    """What to fetch, and how.

    Args:
        source: one of `sources.SOURCES`.
        folder: where downloads are kept.
        file: a local copy to read instead of a download; the source "paper" needs it, "mp" takes none.
        limit: at most so many rows, or None for all.
        on_progress: see `download.OnProgress`.
        open_client: opens the client of the Materials Project.
    """

    source: Source
    folder: Path
    file: Path | None = None
    limit: int | None = None
    on_progress: OnProgress | None = None
    open_client: OpenClient | None = None


class FetchedSet(NamedTuple):
    """The crystals that are kept, the rows that are not, and the provenance for `packed_set.write_packed`."""

    kept: list[Crystal]
    dropped: list[Dropped]
    provenance: dict[str, Any]


def fetch_set(request: Request, selection: Selection) -> FetchedSet:
    """Fetch labelled crystals and choose those that can be trained on.

    Args:
        request: what to fetch.
        selection: the rules.

    Returns:
        Crystals with tensors in the frame of their cell, and all that is needed to fetch them again.

    Raises:
        DTNNError: the source cannot be had: `FetchError`, `BadFileError` or `MissingPackageError`; or the request does
            not fit the source.

    Example:
        >>> data = fetch_set(Request(SOURCES["matminer"], Path("downloads")), Selection(encoder="sevennet-0"))
        >>> write_packed(Path("petousis.npz"), data.kept, data.provenance)
    """
    started = datetime.now(UTC)
    fetched = _fetch(request)
    kept, dropped = select(_counted(fetched, request), selection)
    source = request.source
    provenance = {
        "source": source.name,
        "title": source.title,
        "licence": source.licence,
        "cite": list(source.cite),
        **fetched.record,
        "date": started.isoformat(timespec="seconds"),
        "dtnn_fast": __version__,
        "encoder": selection.encoder,
        "tensor_range": None if selection.tensor_range is None else list(selection.tensor_range),
        "frame_of_source": selection.frame.value,
        "largest_symmetry_violation": LARGEST_VIOLATION if selection.check_symmetry else None,
        "kept": len(kept),
        "dropped": count_dropped(dropped),
    }
    return FetchedSet(kept, dropped, provenance)


def _fetch(request: Request) -> Fetched:
    source, folder, file, limit, on_progress, open_client = request
    if source is MATERIALS_PROJECT:
        if file is not None:
            raise DTNNError("the source mp takes no file: it asks the Materials Project")
        return fetch_materials_project(limit, on_progress, open_client)
    if source is PAPER:
        if file is None:
            raise DTNNError(
                "the source paper needs a file: the paper's repository has the code that reads mp_dielectric.json, not "
                "the file itself; without one, fetch the crystals from mp"
            )
        return fetch_paper(file, limit)
    if source is JARVIS:
        return fetch_jarvis(folder, file, limit, on_progress)
    assert source is MATMINER
    return fetch_matminer(folder, file, limit, on_progress)


def _counted(fetched: Fetched, request: Request) -> Iterator[Crystal | Dropped]:
    """The rows, counted while they are judged."""
    for number, row in enumerate(fetched.rows, start=1):
        yield row
        if request.on_progress is not None:
            request.on_progress("rows", number, fetched.record["rows"])

# SPDX-License-Identifier: MIT
"""Labelled crystals of the Materials Project, through its client mp-api."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any, TypeVar

from ...crystals.crystal import Crystal
from ...errors import FetchError, optional_import
from ...files import OnProgress
from .materials_project_tasks import TASK_FIELDS, TaskFile, dielectric_origin, field_of, find_fault, read_task
from .source import (
    FRAME_KEY,
    DataSource,
    DroppedRow,
    DropReason,
    PublishedTensors,
    SourceRows,
    TensorFrame,
    labelled_crystal,
)

MATERIALS_PROJECT = DataSource(
    "mp",
    "Materials Project",
    TensorFrame.ieee,
    "CC BY 4.0",
    (
        "A. Jain et al., APL Materials 1, 011002 (2013), https://doi.org/10.1063/1.4812323",
        "I. Petousis et al., Scientific Data 4, 160134 (2017), https://doi.org/10.1038/sdata.2016.134",
    ),
)
KEY_VARIABLE = "MP_API_KEY"
SUMMARY_FIELDS = ("material_id", "formula_pretty", "structure", "band_gap", "energy_above_hull")
DIELECTRIC_FIELDS = ("material_id", "electronic", "ionic", "total", "origins")
_SOURCE = "Materials Project"
_PAGE_SIZE = 1000
# As many ids as fit into a URL of at most 8 kB.
_IDS_PER_REQUEST = 400
# The client sends each task's id twice, in two ways of writing.
_TASKS_PER_REQUEST = 200

# Opens a client with an API key, as `mp_api.client.MPRester` does.
OpenClient = Callable[[str], AbstractContextManager[Any]]
T = TypeVar("T")


def fetch_materials_project(
    limit: int | None = None,
    on_progress: OnProgress | None = None,
    open_client: OpenClient | None = None,
    folder: Path | None = None,
) -> SourceRows:
    """Fetch the structures and tensors of all materials that have a dielectric tensor and are not deprecated.

    Three requests: ``materials.summary.search(has_props=["dielectric"])`` for the materials, then
    ``materials.dielectric.search(material_ids=...)`` for their tensors and the calculations that these come from, then
    ``materials.tasks.search(task_ids=...)`` for these calculations.

    Args:
        limit: maximum number of materials, or None for all.
        on_progress: see `files.OnProgress`; it counts tensors and calculations.
        open_client: opens the client, by default mp-api's.
        folder: folder that keeps the calculations, from which an interrupted fetch continues; None keeps nothing.

    Returns:
        The crystals, with the database version and the number of rows by origin in the provenance. Where the
        calculation is known, structure and tensors are its own, in one frame; where not, the tensors are those of the
        dielectric document, in the IEEE standard frame of its structure, and the structure is the material's.
        "tensors_from" of `info` says which, and why.

    Raises:
        FetchError: the environment has no API key, or a request fails.
        MissingPackageError: mp-api is not installed.
    """
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key:
        raise FetchError(
            f"the Materials Project needs an API key in the environment variable {KEY_VARIABLE}; "
            "get one at https://next-gen.materialsproject.org/api"
        )
    open_client = open_client or _open_mp_api
    client = _request(key, lambda: open_client(key))
    with client as opened:
        version = _request(key, lambda: opened.db_version)
        pages = {} if limit is None else {"num_chunks": ceil(limit / _PAGE_SIZE), "chunk_size": min(limit, _PAGE_SIZE)}
        query = {"has_props": ["dielectric"], "deprecated": False}
        summaries = _request(
            key, lambda: list(opened.materials.summary.search(**query, fields=list(SUMMARY_FIELDS), **pages))
        )[:limit]
        tensors: dict[str, Any] = {}
        ids = [_material_id(summary) for summary in summaries]
        for start in range(0, len(ids), _IDS_PER_REQUEST):
            portion = ids[start : start + _IDS_PER_REQUEST]
            tensors |= _request(key, partial(_request_tensors, opened, portion))
            if on_progress is not None:
                on_progress("tensors", start + len(portion), len(ids))
        origins = {name: origin for name, document in tensors.items() if (origin := dielectric_origin(document))}
        send = partial(_request_tasks, key, opened)
        tasks = _fetch_tasks(list(dict.fromkeys(origins.values())), send, _task_file(folder, version), on_progress)
    rows = [_row(summary, tensors, origins, tasks) for summary in summaries]
    routes = ("calculation" if FRAME_KEY in row.info else "document" for row in rows if isinstance(row, Crystal))
    provenance = {
        "database_version": str(version) if version else "not given by the server",
        "query": {
            "materials.summary": query,
            "materials.dielectric": "material_ids of these",
            "materials.tasks": "origins of these",
            "limit": limit,
        },
        "rows": len(summaries),
        "tensors_from": dict(Counter(routes)),
    }
    return SourceRows(rows, provenance)


def _open_mp_api(key: str) -> AbstractContextManager[Any]:
    client = optional_import("mp_api.client", extra="mp", purpose="fetch data of the Materials Project")
    rester: AbstractContextManager[Any] = client.MPRester(key, mute_progress_bars=True, notify_db_version=False)
    return rester


def _request(key: str, send: Callable[[], T]) -> T:
    """Make a request; every error of the client becomes a FetchError that does not show the key."""
    try:
        return send()
    except ImportError:
        raise
    except Exception as error:  # the client passes on the errors of requests, boto3, pydantic and json
        message = f"{type(error).__name__}: {error}".replace(key, "<key>")
        # Not "from error", because the traceback would show the key.
        raise FetchError(f"{_SOURCE}: the request failed: {message}") from None


def _request_tensors(client: Any, ids: list[str]) -> dict[str, Any]:
    documents = client.materials.dielectric.search(material_ids=ids, fields=list(DIELECTRIC_FIELDS))
    return {_material_id(document): document for document in documents}


def _request_tasks(key: str, client: Any, ids: list[str]) -> list[Crystal | DroppedRow]:
    documents = _request(key, lambda: client.materials.tasks.search(task_ids=ids, fields=list(TASK_FIELDS)))
    return [read_task(document) for document in documents]


def _task_file(folder: Path | None, version: Any) -> TaskFile:
    """Name the file of the calculations after the version of the database, since calculations are parsed anew."""
    if folder is None:
        return TaskFile(None)
    return TaskFile(folder / f"mp_tasks_{re.sub('[^0-9A-Za-z.-]', '_', str(version or 'unknown'))}.jsonl")


def _fetch_tasks(
    ids: list[str],
    send: Callable[[list[str]], list[Crystal | DroppedRow]],
    file: TaskFile,
    on_progress: OnProgress | None,
) -> dict[str, Crystal | DroppedRow]:
    """Fetch calculations in portions, except those of the file, which gets each portion.

    Args:
        ids: their ids.
        send: requests some of them.
        file: those that were received earlier.
        on_progress: see `files.OnProgress`.
    """
    tasks: dict[str, Crystal | DroppedRow] = {task.id: task for task in file.read()}
    missing = [id for id in ids if id not in tasks]
    for start in range(0, len(missing), _TASKS_PER_REQUEST):
        portion = missing[start : start + _TASKS_PER_REQUEST]
        received = send(portion)
        file.add(task for task in received if isinstance(task, Crystal))
        tasks |= {task.id if isinstance(task, Crystal) else task.rejected.id: task for task in received}
        if on_progress is not None:
            on_progress("calculations", len(ids) - len(missing) + start + len(portion), len(ids))
    return tasks


def _row(
    summary: Any,
    tensors: Mapping[str, Any],
    origins: Mapping[str, str],
    tasks: Mapping[str, Crystal | DroppedRow],
) -> Crystal | DroppedRow:
    """Make the row of a material.

    Args:
        summary: its summary.
        tensors: dielectric documents by material.
        origins: ids of calculations by material.
        tasks: calculations by id.
    """
    name = _material_id(summary)
    document = tensors.get(name)
    if document is None:
        return DroppedRow.make(DropReason.NO_TENSOR, name, _SOURCE, "the server has no dielectric document for it")
    structure = field_of(summary, "structure")
    given = PublishedTensors(*(field_of(document, target) for target in PublishedTensors._fields))
    info = {
        "formula": field_of(summary, "formula_pretty"),
        "band_gap_ev": field_of(summary, "band_gap"),
        "e_above_hull_ev_per_atom": field_of(summary, "energy_above_hull"),
    }
    origin = origins.get(name)
    task = tasks.get(origin or "")
    fault: str | None
    if origin is None:
        fault = "it names no calculation"
    elif task is None:
        fault = f"the server has no calculation {origin}"
    elif isinstance(task, DroppedRow):
        fault = f"calculation {origin}: {task.rejected.reason}"
    else:
        fault = find_fault(task, structure, given)
        if fault is None:
            known = {key: value for key, value in info.items() if value is not None}
            own = {"tensors_from": f"calculation {origin}", FRAME_KEY: TensorFrame.cell.value}
            return replace(task, id=name, source=_SOURCE, info=known | own)
        fault = f"calculation {origin} {fault}"
    return labelled_crystal(name, _SOURCE, structure, given, info | {"tensors_from": f"document, since {fault}"})


def _material_id(document: Any) -> str:
    return str(field_of(document, "material_id"))

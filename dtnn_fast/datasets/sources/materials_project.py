# SPDX-License-Identifier: MIT
"""Labelled crystals of the Materials Project, through its client mp-api."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from math import ceil
from typing import Any, TypeVar

from ...crystals.crystal import Crystal
from ...errors import FetchError, optional_import
from ...files import OnProgress
from .source import (
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
DIELECTRIC_FIELDS = ("material_id", "electronic", "ionic", "total")
_SOURCE = "Materials Project"
_PAGE_SIZE = 1000
# As many ids as fit into a URL of at most 8 kB.
_IDS_PER_REQUEST = 400

# Opens a client with an API key, as `mp_api.client.MPRester` does.
OpenClient = Callable[[str], AbstractContextManager[Any]]
T = TypeVar("T")


def fetch_materials_project(
    limit: int | None = None, on_progress: OnProgress | None = None, open_client: OpenClient | None = None
) -> SourceRows:
    """Fetch the structures and tensors of all materials that have a dielectric tensor and are not deprecated.

    Two requests: ``materials.summary.search(has_props=["dielectric"])`` for the structures, then
    ``materials.dielectric.search(material_ids=...)`` for their tensors.

    Args:
        limit: maximum number of materials, or None for all.
        on_progress: see `files.OnProgress`; it counts tensors.
        open_client: opens the client, by default mp-api's.

    Returns:
        The crystals with tensors in the IEEE standard frame, with the database version in the provenance.

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
    provenance = {
        "database_version": str(version) if version else "not given by the server",
        "query": {"materials.summary": query, "materials.dielectric": "material_ids of these", "limit": limit},
        "rows": len(summaries),
    }
    return SourceRows(_rows(summaries, tensors), provenance)


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


def _rows(summaries: list[Any], tensors: Mapping[str, Any]) -> Iterator[Crystal | DroppedRow]:
    for summary in summaries:
        name = _material_id(summary)
        document = tensors.get(name)
        if document is None:
            yield DroppedRow.make(DropReason.NO_TENSOR, name, _SOURCE, "the server has no dielectric document for it")
            continue
        info = {
            "formula": _field(summary, "formula_pretty"),
            "band_gap_ev": _field(summary, "band_gap"),
            "e_above_hull_ev_per_atom": _field(summary, "energy_above_hull"),
        }
        given = PublishedTensors(*(_field(document, target) for target in PublishedTensors._fields))
        yield labelled_crystal(name, _SOURCE, _field(summary, "structure"), given, info)


def _material_id(document: Any) -> str:
    return str(_field(document, "material_id"))


def _field(document: Any, name: str) -> Any:
    """Return a field of a document, which the client gives as an object or as a dict."""
    return document.get(name) if isinstance(document, Mapping) else getattr(document, name, None)

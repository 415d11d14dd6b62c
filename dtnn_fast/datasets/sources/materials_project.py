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
from .source import Dropped, Fetched, Tensors, Why, labelled_crystal

KEY_VARIABLE = "MP_API_KEY"
SUMMARY_FIELDS = ("material_id", "formula_pretty", "structure", "band_gap", "energy_above_hull")
DIELECTRIC_FIELDS = ("material_id", "electronic", "ionic", "total")
_SOURCE = "Materials Project"
_PAGE = 1000
# So many ids go into one address of at most 8 kB.
_IDS_PER_REQUEST = 400

# Opens the client for a key; `mp_api.client.MPRester` does.
OpenClient = Callable[[str], AbstractContextManager[Any]]
T = TypeVar("T")


def fetch_materials_project(
    limit: int | None = None, on_progress: OnProgress | None = None, open_client: OpenClient | None = None
) -> Fetched:
    """Fetch the structures and tensors of all materials that have a dielectric tensor and are not deprecated.

    Two kinds of requests: ``materials.summary.search(has_props=["dielectric"])`` for the structures, then
    ``materials.dielectric.search(material_ids=...)`` for their tensors.

    Args:
        limit: at most so many materials, or None for all.
        on_progress: see `OnProgress`; it counts tensors.
        open_client: opens another client than mp-api's.

    Returns:
        The crystals with tensors in the IEEE standard frame, and the database version.

    Raises:
        FetchError: there is no key in the environment, or a request fails.
        MissingPackageError: mp-api is not installed.
    """
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key:
        raise FetchError(
            f"the Materials Project needs an API key in the environment variable {KEY_VARIABLE}; "
            "https://next-gen.materialsproject.org/api gives you one"
        )
    open_client = open_client or _open_mp_api
    client = _ask(key, lambda: open_client(key))
    with client as opened:
        version = _ask(key, lambda: opened.db_version)
        pages = {} if limit is None else {"num_chunks": ceil(limit / _PAGE), "chunk_size": min(limit, _PAGE)}
        query = {"has_props": ["dielectric"], "deprecated": False}
        summaries = _ask(
            key, lambda: list(opened.materials.summary.search(**query, fields=list(SUMMARY_FIELDS), **pages))
        )[:limit]
        tensors: dict[str, Any] = {}
        names = [_id(summary) for summary in summaries]
        for start in range(0, len(names), _IDS_PER_REQUEST):
            ids = names[start : start + _IDS_PER_REQUEST]
            tensors |= _ask(key, partial(_tensors, opened, ids))
            if on_progress is not None:
                on_progress("tensors", start + len(ids), len(names))
    record = {
        "database_version": str(version) if version else "not given by the server",
        "query": {"materials.summary": query, "materials.dielectric": "material_ids of these", "limit": limit},
        "rows": len(summaries),
    }
    return Fetched(_rows(summaries, tensors), record)


def _open_mp_api(key: str) -> AbstractContextManager[Any]:
    client = optional_import("mp_api.client", extra="mp", purpose="fetch data of the Materials Project")
    rester: AbstractContextManager[Any] = client.MPRester(key, mute_progress_bars=True, notify_db_version=False)
    return rester


def _ask(key: str, request: Callable[[], T]) -> T:
    """Make a request; whatever the client raises becomes one error, in which the key is not shown."""
    try:
        return request()
    except ImportError:
        raise
    except Exception as error:  # the client lets through what requests, boto3, pydantic and json raise
        message = f"{type(error).__name__}: {error}".replace(key, "<key>")
        # Not "from error": a traceback would show the key that was replaced here.
        raise FetchError(f"{_SOURCE}: the request failed: {message}") from None


def _tensors(client: Any, ids: list[str]) -> dict[str, Any]:
    documents = client.materials.dielectric.search(material_ids=ids, fields=list(DIELECTRIC_FIELDS))
    return {_id(document): document for document in documents}


def _rows(summaries: list[Any], tensors: Mapping[str, Any]) -> Iterator[Crystal | Dropped]:
    for summary in summaries:
        name = _id(summary)
        document = tensors.get(name)
        if document is None:
            yield Dropped.of(Why.NO_TENSOR, name, _SOURCE, "the server has no dielectric document for it")
            continue
        info = {
            "formula": _field(summary, "formula_pretty"),
            "band_gap_ev": _field(summary, "band_gap"),
            "e_above_hull_ev_per_atom": _field(summary, "energy_above_hull"),
        }
        given = Tensors(*(_field(document, part) for part in Tensors._fields))
        yield labelled_crystal(name, _SOURCE, _field(summary, "structure"), given, info)


def _id(document: Any) -> str:
    return str(_field(document, "material_id"))


def _field(document: Any, name: str) -> Any:
    """A field of a document, which the client gives as an object or as a dict."""
    return document.get(name) if isinstance(document, Mapping) else getattr(document, name, None)

# SPDX-License-Identifier: MIT
"""The client mp-api of the Materials Project against a local server that gives the recorded answers."""

import json

import numpy as np
import pytest
from fetch_examples import KEY, MaterialsProjectClient, recorded, recorded_client, web_server

from dtnn_fast.datasets.sources.materials_project import fetch_materials_project
from dtnn_fast.errors import FetchError

pytest.importorskip("mp_api.client")

PAGES = {"/materials/summary/": "mp_summary.json", "/materials/dielectric/": "mp_dielectric.json"}
HEARTBEAT = {"db_version": "2026.10.1", "access_controlled_batch_ids": [], "version": "0.87.3"}


def answer(path, query):
    if path == "/heartbeat":
        return 200, json.dumps(HEARTBEAT).encode(), None
    page = recorded(PAGES[path])
    ids = query.get("material_ids")
    documents = [d for d in page["data"] if ids is None or d["material_id"] in ids[0].split(",")]
    return 200, json.dumps({"data": documents, "meta": page["meta"] | {"total_doc": len(documents)}}).encode(), None


@pytest.fixture
def ask(monkeypatch):
    """Fetch from a local server; a function of path and query makes its answers."""
    monkeypatch.setenv("MP_API_KEY", KEY)

    def run(answering):
        with web_server(answering) as server:
            monkeypatch.setattr(
                "mp_api.client.core.utils.MAPI_CLIENT_SETTINGS.ENDPOINT", f"{server.address}/", raising=True
            )
            fetched = fetch_materials_project()
            return fetched.provenance, list(fetched.rows), server.asked

    return run


def test_recorded_answers_through_the_client(ask):
    provenance, rows, asked = ask(answer)
    assert provenance["database_version"] == "2026.10.1"
    expected = list(fetch_materials_project(open_client=lambda _: recorded_client()).rows)
    assert [row.id for row in rows] == [row.id for row in expected]
    for row, other in zip(rows, expected, strict=True):
        np.testing.assert_allclose(row.positions, other.positions, atol=1e-9)
        np.testing.assert_array_equal(row.targets["total"], other.targets["total"])
        assert row.info == other.info
    pages = {path: query for path, query, _ in asked if path in PAGES}
    assert pages["/materials/summary/"]["has_props"] == ["dielectric"]
    assert pages["/materials/summary/"]["deprecated"] == ["False"]
    assert len(pages["/materials/dielectric/"]["material_ids"][0].split(",")) == 6
    assert any(headers.get("x-api-key") == KEY for _, _, headers in asked)


TASK_PAGES = {
    "/materials/summary/": "mp_tasks_summary.json",
    "/materials/dielectric/": "mp_tasks_dielectric.json",
    "/materials/tasks/": "mp_tasks.json",
}


def test_calculations_through_the_client(ask):
    """The client checks the documents with emmet's `CoreTaskDoc`, and sends each id in both ways of writing."""

    def answer_with_tasks(path, query):
        if path == "/heartbeat":
            return answer(path, query)
        page = recorded(TASK_PAGES[path])
        ids = {id for name in ("material_ids", "task_ids") for id in query.get(name, [""])[0].split(",")} - {""}
        documents = [
            document
            for document in page["data"]
            if not ids or ids & {document.get("material_id"), document.get("task_id"), document.get("task_id", "")[3:]}
        ]
        return 200, json.dumps({"data": documents, "meta": page["meta"] | {"total_doc": len(documents)}}).encode(), None

    provenance, rows, asked = ask(answer_with_tasks)
    documents = [recorded(name)["data"] for name in TASK_PAGES.values()]
    client = MaterialsProjectClient(*documents[:2], tasks=documents[2])
    expected = list(fetch_materials_project(open_client=lambda _: client).rows)
    assert provenance["tensors_from"] == {"calculation": 2, "document": 2}
    for row, other in zip(rows, expected, strict=True):
        np.testing.assert_allclose(row.positions, other.positions, atol=1e-9)
        np.testing.assert_allclose(row.targets["total"], other.targets["total"], atol=1e-9)
        assert row.info == other.info
    (query,) = [query for path, query, _ in asked if path == "/materials/tasks/"]
    assert query["_fields"] == ["task_id,input.structure,output.epsilon_static,output.epsilon_ionic"]
    assert len(query["task_ids"][0].split(",")) == 8


def test_refused_key(ask):
    def refuse(path, query):
        return answer(path, query) if path == "/heartbeat" else (401, b'{"detail": "Unauthorized"}', None)

    with pytest.raises(FetchError, match="Unauthorized") as caught:
        ask(refuse)
    assert KEY not in str(caught.value)


def test_answer_that_is_not_json(ask):
    with pytest.raises(FetchError, match="the request failed"):
        ask(lambda *_: (200, b"<html>", None))

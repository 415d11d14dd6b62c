# SPDX-License-Identifier: MIT
"""Recorded answers of the data sources, clients that return them, and a local web server."""

import json
import threading
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlparse

from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.datasets.sources.materials_project_tasks import task_key

RECORDED = Path(__file__).parent / "recorded"
LABELLED = {crystal.id: crystal for crystal in load_labelled()}
KEY = "k" * 32


def recorded(name):
    return json.loads((RECORDED / name).read_text())


class MaterialsProjectClient:
    """Stands in for mp-api's MPRester: returns the documents, and records the requests in `asked`."""

    def __init__(self, summaries, tensors, version="2026.10.1", tasks=()):
        self.db_version = version
        self.asked = []
        self.materials = SimpleNamespace(
            summary=SimpleNamespace(search=self._answer("summary", summaries)),
            dielectric=SimpleNamespace(search=self._answer("dielectric", tensors)),
            tasks=SimpleNamespace(search=self._answer_tasks(tasks)),
        )

    def _answer(self, endpoint, documents):
        def search(material_ids=None, **query):
            self.asked.append((endpoint, query | ({"material_ids": material_ids} if material_ids else {})))
            return [d for d in documents if material_ids is None or d["material_id"] in material_ids]

        return search

    def _answer_tasks(self, documents):
        def search(task_ids, fields):
            self.asked.append(("tasks", {"task_ids": task_ids, "fields": fields}))
            return [d for d in documents if task_key(d["task_id"]) in task_ids]

        return search

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def recorded_client():
    return MaterialsProjectClient(recorded("mp_summary.json")["data"], recorded("mp_dielectric.json")["data"])


def jarvis_folder(folder):
    """The downloads of the two recorded runs."""
    folder.mkdir(exist_ok=True)
    for number in (0, 1):
        with zipfile.ZipFile(folder / f"JVASP-{1000 + number}.zip", "w") as archive:
            archive.writestr("OUTCAR", "")
            archive.write(RECORDED / f"vasprun_{number}.xml", "run/vasprun.xml")
    return folder


@contextmanager
def web_server(answer):
    """Run a local server; `answer(path, query)` returns (status, body, announced length or None for the true one).

    Yields an object with the `address` of the server and the requests in `asked`.
    """
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            url = urlparse(self.path)
            asked.append((url.path, parse_qs(url.query), dict(self.headers)))
            status, body, announced = answer(url.path, parse_qs(url.query))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body) if announced is None else announced))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield SimpleNamespace(address=f"http://127.0.0.1:{server.server_port}", asked=asked)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

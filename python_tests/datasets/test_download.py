# SPDX-License-Identifier: MIT
"""Downloads from a local server: complete, with the right checksum, or no file at all."""

import hashlib
import os

import pytest
from fetch_examples import web_server

from dtnn_fast.errors import FetchError
from dtnn_fast.files import download

BODY = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(BODY).hexdigest()


def answer(path, _query):
    return {
        "/whole": (200, BODY, None),
        "/cut": (200, BODY[:5000], len(BODY)),
        "/absent": (404, b"{}", None),
    }[path]


@pytest.fixture
def server():
    with web_server(answer) as running:
        yield running


def test_whole(server, tmp_path):
    seen = []
    path = download(f"{server.address}/whole", tmp_path / "a", SHA256, lambda *counts: seen.append(counts))
    assert path.read_bytes() == BODY
    assert seen[-1] == ("bytes", len(BODY), len(BODY))
    assert os.listdir(tmp_path) == ["a"]
    download(f"{server.address}/whole", path, SHA256)
    assert len(server.asked) == 1, "an existing file is not downloaded again"


@pytest.mark.parametrize(("path", "reason"), [("/cut", "broke off"), ("/absent", "404")])
def test_failed_download_leaves_no_file(server, tmp_path, path, reason):
    with pytest.raises(FetchError, match=reason):
        download(server.address + path, tmp_path / "a")
    assert os.listdir(tmp_path) == []


def test_checksum(server, tmp_path):
    with pytest.raises(FetchError, match=f"SHA-256 is {SHA256}"):
        download(f"{server.address}/whole", tmp_path / "a", "0" * 64)
    assert os.listdir(tmp_path) == []
    (tmp_path / "b").write_text("other")
    with pytest.raises(FetchError, match="not the expected file"):
        download(f"{server.address}/whole", tmp_path / "b", SHA256)


def test_interrupted(server, tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(f"{server.address}/whole", tmp_path / "a", SHA256, stop)
    assert os.listdir(tmp_path) == []


def test_no_server(server, tmp_path):
    with web_server(answer) as other:
        gone = other.address
    with pytest.raises(FetchError, match="the download failed"):
        download(f"{gone}/whole", tmp_path / "a")
    with pytest.raises(FetchError, match="unknown url type"):
        download("whole", tmp_path / "a")

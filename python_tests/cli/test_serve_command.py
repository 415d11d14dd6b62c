# SPDX-License-Identifier: MIT
"""The command serve: what keeps it from starting; python_tests/serving has what it does then."""

import socket
import sys

import pytest


@pytest.mark.parametrize("package", ["fastapi", "uvicorn", "httptools", "python_multipart"])
def test_a_missing_package_is_named(program, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    result = program("serve")
    assert result.exit_code == 2
    assert 'pip install "dtnn-fast[serve]"' in result.stderr
    assert package.replace("_", "-") in result.stderr


def test_a_port_in_use_is_one_line(program, tiny_model):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = program("serve", "--model", tiny_model, "--port", port)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: serve: cannot listen on 127.0.0.1, port {port}: ")
    assert "--port 0" in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_address_of_another_machine_is_one_line(program, tiny_model):
    result = program("serve", "--model", tiny_model, "--host", "192.0.2.1", "--port", 0)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: serve: cannot listen on 192.0.2.1")
    result = program("serve", "--model", tiny_model, "--host", "no host\u00fc")
    assert result.exit_code == 2
    assert "cannot listen on" in result.stderr


def test_fewer_waiting_than_one_request_may_have(program):
    result = program("serve", "--max-crystals", 100, "--max-waiting", 99)
    assert result.exit_code == 2
    assert "Invalid value for --max-waiting" in result.stderr
    assert "at least the 100" in " ".join(result.stderr.replace("│", " ").split())

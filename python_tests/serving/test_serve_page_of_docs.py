# SPDX-License-Identifier: MIT
"""The examples of docs/serve.md and of /docs run against a server as they stand."""

import contextlib
import html
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from serving_processes import ROCK_SALT

from dtnn_fast.cli.app import app
from dtnn_fast.serving.crystal_messages import RefusalCode

PAGE = (Path(__file__).parents[2] / "docs/serve.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000/"

pytestmark = pytest.mark.slow


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_python_example(server):
    (code,) = blocks("python")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code.replace(ADDRESS, server.url), {})
    first, second = printed.getvalue().splitlines()
    assert re.fullmatch(r"TiO2: \d+\.\d ± \d+\.\d (TiO2|SrTiO3)", first)
    assert re.fullmatch(r"NaCl: 6\.1 ± 1\.\d \w+", second)  # DFPT: 5.9


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl is installed")
def test_the_curl_examples(server, tmp_path):
    (tmp_path / "POSCAR").write_text(ROCK_SALT)
    (tmp_path / "NaCl.cif").write_text("data_x\n_cell_length_a 5\n")
    shown = html.unescape(server.get("/docs")[2].decode().partition("<pre>")[2].partition("</pre>")[0])
    commands = [block for block in blocks("bash") if block.startswith("curl")] + shown.strip().split("\n\n")
    assert len(commands) == 3
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", command.replace(ADDRESS, server.url)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert '"results":[' in done.stdout


def test_options_defaults_and_codes_are_those_of_the_program():
    import typer

    command = typer.main.get_command(app).commands["serve"]
    defaults = {option.opts[0]: option.default for option in command.params}
    rows = dict(re.findall(r"^\| `(--[\w-]+)` \| ([\d.]+)", PAGE, re.MULTILINE))
    assert len(rows) == 6
    assert {name: float(value) for name, value in rows.items()} == {name: float(defaults[name]) for name in rows}
    assert set(re.findall(r"`(--[\w-]+)`", PAGE)) <= set(defaults)
    table = PAGE.partition("| code | reason |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", table)) == {str(code) for code in RefusalCode}

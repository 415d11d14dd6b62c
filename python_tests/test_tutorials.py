# SPDX-License-Identifier: MIT
"""The tutorials of docs/tutorials run as scripts, keep what they claim, and read as notebooks.

Their claims are `assert` statements in them: a prediction within its error bar, equivariance, falling losses, a
screening that goes on after a crash with the same result.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.py"))
PICTURES = {
    "01_first_prediction": ("tensor.png", "textbook.png"),
    "02_screen_a_folder": ("overview.png", "pareto.png"),
    "03_network_of_your_own": ("training.png",),
    "04_train_on_your_tensors": ("training.png",),
    "05_born_charges_and_refine": ("mgo.png", "modes.png"),
}
# Beside the navigation of the site there is room for this number of characters.
WIDEST_OUTPUT = 84
CELL = re.compile(r"^# %%(.*)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def cells(path: Path) -> list[tuple[bool, str]]:
    """Return for each cell whether it is a text, and its content."""
    _, *parts = CELL.split(path.read_text(encoding="utf-8"))
    return [(mark.strip() == "[markdown]", text) for mark, text in zip(parts[::2], parts[1::2], strict=True)]


def run_in(folder: Path, script: Path) -> subprocess.CompletedProcess[str]:
    """Run a tutorial as a reader would, from another folder, and without a screen."""
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "MPLBACKEND")}
    environment |= {"TMPDIR": str(folder), "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
    # As Jupyter's kernels do, in which the site runs the tutorials: their commands must print no moving bars there.
    environment |= {"FORCE_COLOR": "1", "TERM": "xterm-color"}
    return subprocess.run(
        [sys.executable, "-P", str(script)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_every_tutorial_is_numbered_and_has_its_pictures_listed():
    assert [path.stem for path in TUTORIALS] == list(PICTURES)
    assert [path.name[:2] for path in TUTORIALS] == [f"{number:02}" for number in range(1, len(TUTORIALS) + 1)]


@pytest.mark.slow  # 02 to 04 take more than ten seconds each, all together about 45 s on one core
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_runs_as_a_script(path, tmp_path):
    for package in ("pymatgen", "ase", "matplotlib", "pandas", "phonopy", "duckdb", "plotly", "typer"):
        pytest.importorskip(package)
    done = run_in(tmp_path, path)
    assert done.returncode == 0, done.stderr
    # A reader sees neither a warning nor a progress bar, and a page has no output that nobody explains.
    assert done.stderr == ""
    assert "Traceback" not in done.stdout
    assert "━" not in done.stdout
    assert "Warning" not in done.stdout
    (work,) = tmp_path.glob("dtnn_fast_*")
    *lines, last = done.stdout.splitlines()
    assert last.endswith(f"in {work}")
    assert max(map(len, lines)) <= WIDEST_OUTPUT
    assert tuple(sorted(picture.name for picture in work.glob("*.png"))) == PICTURES[path.stem]
    for picture in work.glob("*.png"):
        content = picture.read_bytes()
        assert content[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = (int.from_bytes(content[place : place + 4], "big") for place in (16, 20))
        assert width >= 800
        assert height >= 400
    # Nothing else is left behind, in the folder of the reader or in that of the tutorial.
    assert [entry.name for entry in tmp_path.iterdir() if "torchinductor" not in entry.name] == [work.name]


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_is_a_notebook(path):
    header, _, _ = path.read_text(encoding="utf-8").partition("# %%")
    assert header.startswith("# ---\n# jupyter:\n")
    assert "SPDX-License-Identifier: MIT" in header
    parts = cells(path)
    is_text, first = parts[0]
    assert is_text
    number = int(path.name[:2])
    assert first.startswith(f"\n# # {number}. ")
    for is_text, content in parts:
        if is_text:
            assert all(not line or line == "#" or line.startswith("# ") for line in content.splitlines()), content
        else:
            ast.parse(content)
            assert content.strip()
    # Before and between cells of code there is always some text that says what comes.
    assert sum(is_text for is_text, _ in parts) >= len(parts) // 2 - 2
    assert any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_links_lead_to_pages(path):
    """Links are addresses of the site, where each page is a folder: a notebook's links are not rewritten."""
    targets = [target for is_text, content in cells(path) if is_text for target in LINK.findall(content)]
    for target in targets:
        place, _, anchor = target.partition("#")
        if place.startswith("../../"):
            page = ROOT / "docs" / f"{place.removeprefix('../../').rstrip('/')}.md"
        else:
            page = ROOT / "docs" / "tutorials" / f"{place.removeprefix('../').rstrip('/')}.py"
        assert place.endswith("/"), target
        assert page.is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [heading.lower().replace(" ", "-") for heading in headings], target


def test_the_network_has_sixty_lines():
    (path,) = (path for path in TUTORIALS if path.stem == "03_network_of_your_own")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parts = [node for node in tree.body if getattr(node, "name", "") in ("mixing", "Layer", "Network")]
    assert len(parts) == 3
    assert sum(node.end_lineno - node.lineno + 1 for node in parts) <= 60

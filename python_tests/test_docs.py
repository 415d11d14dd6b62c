# SPDX-License-Identifier: MIT
"""Markdown pages: links, paths and module names exist, lines have at most 120 characters."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from test_layers import HEIGHT, LAYERS, MODULES, imports

ROOT = Path(__file__).parents[1]
FOLDERS = ("docs", "benchmarks", "dtnn_fast", "python_tests")
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])
LONGEST_LINE = 120
# Written by `benchmarks/run.sh`, `dtnn-fast evaluate --markdown` and tools, not by hand.
GENERATED = ("benchmarks/results/", "docs/results.md", "docs/textbook.md", "docs/paper_finds.md")
GENERATED_PART = re.compile(r"<!-- (\w+): begin -->.*?<!-- \1: end -->", re.DOTALL)
# The changelog tells of files and names that exist no more.
HISTORY = ("CHANGELOG.md",)

CODE_BLOCK = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)
INLINE_CODE = re.compile(r"`([^`\n]+)`")
BADGE = re.compile(r"\.\./\.\./actions/workflows/(\w+\.yml)(?:/badge\.svg)?")
LINK_TARGET = re.compile(r"\]\(([^)\s]+)\)")
SOURCE_PATH = re.compile(r"(?<![\w./])((?:dtnn_fast|csrc|python_tests|cmake)/[\w./<>*-]*)")
MODULE_NAME = re.compile(r"(?<![\w./])(dtnn_fast(?:\.\w+)+)")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def inline_code(page: Path) -> Iterator[str]:
    yield from INLINE_CODE.findall(CODE_BLOCK.sub("", page.read_text(encoding="utf-8")))


def path_exists(path: str) -> bool:
    """Whether a file or folder of the repository exists; `<op>` and `*` stand for any name."""
    pattern = re.sub(r"<\w+>", "*", path).rstrip("/.")
    return any(ROOT.glob(pattern))


def name_exists(name: str) -> bool:
    """Whether a dotted name is a module of the package or something inside a module."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        # A module is tried before an attribute: operations have the names of their modules.
        try:
            found = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part, None)
        return found is not None
    return False


on_every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


@on_every_page
def test_relative_links_point_to_files(page):
    text = CODE_BLOCK.sub("", page.read_text(encoding="utf-8"))
    targets = [target.partition("#")[0] for target in LINK_TARGET.findall(text) if "://" not in target]
    # Badges: an address of GitHub, relative to a page of the repository, in place of the name that this has there.
    targets = [BADGE.sub(r".github/workflows/\1", target) for target in targets]
    assert [target for target in targets if not (page.parent / target).exists()] == []


@on_every_page
def test_lines_are_short(page):
    if name_of(page).startswith(GENERATED):
        pytest.skip("written by a program")
    text = GENERATED_PART.sub("", CODE_BLOCK.sub("", page.read_text(encoding="utf-8")))
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("|")]
    # The address of a link does not count: it cannot be broken.
    assert [line for line in lines if len(LINK_TARGET.sub("]", line)) > LONGEST_LINE] == []


@on_every_page
def test_paths_and_module_names_exist(page):
    if name_of(page) in HISTORY:
        pytest.skip("tells of earlier versions")
    code = list(inline_code(page))
    paths = {path for text in code for path in SOURCE_PATH.findall(text)}
    names = {name for text in code for name in MODULE_NAME.findall(text)}
    assert sorted(path for path in paths if not path_exists(path)) == []
    assert sorted(name for name in names if not name_exists(name)) == []


def test_the_packages_of_the_architecture_page_are_the_layers():
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d+ \| ([^|]*) \|", text, re.MULTILINE)
    assert [set(INLINE_CODE.findall(row)) for row in rows] == LAYERS


def test_the_arrows_of_the_architecture_page_are_imports():
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    (drawing,) = re.findall(r"```mermaid\nflowchart TD\n(.*?)```", text, re.DOTALL)
    arrows = set()
    for line in drawing.splitlines():
        sources, _, targets = re.sub(r'\[.*?"\)?\]', "", line).partition("-->")
        arrows |= {(a.strip(), b.strip()) for a in sources.split("&") for b in targets.split("&")}
    between_packages = {arrow for arrow in arrows if HEIGHT.keys() >= set(arrow)}
    found = {(user.partition(".")[0], used.partition(".")[0]) for user in MODULES for used in imports(user)}
    assert len(between_packages) >= len(HEIGHT) - 6
    assert between_packages <= found


def test_missing_things_are_found(tmp_path):
    assert path_exists("dtnn_fast/ops/<op>.py")
    assert not path_exists("dtnn_fast/ops/no_such_operation.py")
    assert name_exists("dtnn_fast.ops.neighbor_list")
    assert name_exists("dtnn_fast.reference.rank2_linear.smooth_norm")
    assert not name_exists("dtnn_fast.ops.no_such_operation")
    page = tmp_path / "page.md"
    page.write_text("`dtnn_fast/a.py` and `x`\n```\n`dtnn_fast/b.py`\n```\n", encoding="utf-8")
    assert list(inline_code(page)) == ["dtnn_fast/a.py", "x"]

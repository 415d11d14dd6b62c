# SPDX-License-Identifier: MIT
"""Every Python block of docs/coming_from.md and docs/integrations.md runs and prints what the page shows."""

import ast
import doctest
import re
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SECTION = re.compile(r"^## (.*)$", re.MULTILINE)


def blocks(page):
    """The blocks of a page as (section, line, text)."""
    text = (DOCS / page).read_text(encoding="utf-8")
    starts = [(match.start(), match[1]) for match in SECTION.finditer(text)]
    found = []
    for match in BLOCK.finditer(text):
        section = max((start, name) for start, name in starts if start < match.start())[1]
        found.append((section, text[: match.start()].count("\n"), match[1]))
    return found


PAGES = ("coming_from.md", "integrations.md")
SECTIONS = [(page, section) for page in PAGES for section in dict.fromkeys(block[0] for block in blocks(page))]


def missing_packages(examples):
    trees = [ast.parse(example.source) for example in examples]
    names = {node.module for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {a.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    return sorted({name.partition(".")[0] for name in names if not find_spec(name.partition(".")[0])})


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("page", "section"), SECTIONS)
def test_the_blocks_of_a_section_run_one_after_the_other(page, section, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names, skipped = {}, []
    for of, line, text in blocks(page):
        if of != section:
            continue
        examples = doctest.DocTestParser().get_examples(text)
        assert any(example.want for example in examples), f"{page}:{line}: the block shows no result"
        missing = missing_packages(examples)
        if missing:
            skipped += missing
            continue
        report = []
        test = doctest.DocTest(examples, names, f"{page}:{line}", str(DOCS / page), line, text)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other packages about their own calls
            runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE)
            failed = runner.run(test, out=report.append, clear_globs=False).failed
        names = test.globs
        assert not failed, "".join(report)
    if skipped:
        pytest.skip(f"not installed: {', '.join(skipped)}")


def test_all_sections_are_found():
    assert len(SECTIONS) == 10
    assert sum(len(blocks(page)) for page in PAGES) == 14

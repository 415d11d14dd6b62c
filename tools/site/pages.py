# SPDX-License-Identifier: MIT
"""What the site's pages are made of: files of docs/ and from outside, pages of commands; and how texts are fitted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from commands import all_commands, command_page, overview, page_name
from drawings import inline_drawings
from flowchart import flowcharts_as_drawings
from links import rewrite_links

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
# Pages that are files outside of docs/, where git hosts and tools look for them.
_OUTSIDE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "dtnn_fast/datasets/bundled/SOURCES.md": "data_sources.md",
}
_OVERVIEW_OF_COMMANDS, _LIST_OF_TUTORIALS = "<!-- overview of commands -->", "<!-- list of tutorials -->"
_TITLE = re.compile(r"^# #\s+(.*)$", re.MULTILINE)


def outside_pages() -> dict[Path, str]:
    """Map each file outside of docs/ that is a page to its path in the site's sources."""
    results = sorted((ROOT / "benchmarks" / "results").glob("*.md"))
    return {ROOT / path: uri for path, uri in _OUTSIDE.items()} | {path: f"benchmarks/{path.name}" for path in results}


def command_pages() -> dict[str, str]:
    """Map the path of each command's page in the site's sources to its text."""
    return {page_name(name): command_page(name, command) for name, command in all_commands()}


def tutorials() -> dict[str, str]:
    """Map the title of each tutorial, its first heading, to its path in the site's sources."""
    titles = {}
    for path in sorted((DOCS / "tutorials").glob("[0-9]*.py")):
        title = _TITLE.search(path.read_text(encoding="utf-8"))
        if title is None:
            raise ValueError(f"{path}: expected a line `# # Title` in a Markdown cell")
        titles[title[1]] = f"tutorials/{path.name}"
    return titles


def fit_text(markdown: str, uri: str, uris: Iterable[str]) -> str:
    """Fit a page's text to the site: overviews, drawings, links, flow charts.

    Args:
        markdown: the text of the file.
        uri: its path in the site's sources.
        uris: paths of all files in the site's sources.
    """
    paths = {DOCS / file: file for file in uris} | outside_pages() | {ROOT / "README.md": "index.md"}
    source = next((path for path, to in outside_pages().items() if to == uri), DOCS / uri)
    listed = "\n".join(f"- [{title}]({path})" for title, path in tutorials().items())
    markdown = markdown.replace(_OVERVIEW_OF_COMMANDS, overview()).replace(_LIST_OF_TUTORIALS, listed)
    markdown = inline_drawings(markdown, source.parent)
    return flowcharts_as_drawings(rewrite_links(markdown, source, uri, paths, ROOT))

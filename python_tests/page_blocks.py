# SPDX-License-Identifier: MIT
"""Fenced blocks of the site's pages, and the commands in those of the shell.

A block that cannot run here has a comment before it, ``<!-- not run: reason -->``, which readers of the source see and
readers of the page do not. README's ``<!-- ci: name -->`` says which step of .ci/run runs a block.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
# All pages of the site, and README, which hosts show in place of its start page.
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "benchmarks" / "results").glob("*.md"),
        ROOT / "dtnn_fast" / "datasets" / "bundled" / "SOURCES.md",
    ]
)
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```[ ]*$", re.DOTALL | re.MULTILINE
)
_MARK = re.compile(r"<!-- (?P<kind>not run|ci):?(?P<reason>[^>]*)-->\s*\Z")
_SECTION = re.compile(r"^## (.*)$", re.MULTILINE)
_OPERATORS = re.compile(r"[;&|()<>]+")
ANY_MARK = re.compile(r"^ *<!-- (?:not run|ci)\b", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: where it is, what it is written in, and why it does not run, if it has a mark."""

    page: str
    line: int
    section: str
    language: str
    text: str
    mark: str | None = None
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def read_blocks(page: str, text: str) -> list[Block]:
    """Read the blocks of a page."""
    sections = [(0, ""), *((match.start(), match[1]) for match in _SECTION.finditer(text))]
    found = []
    for fence in _FENCE.finditer(text):
        before = text[: fence.start()]
        mark = _MARK.search(before)
        section = max((start, name) for start, name in sections if start <= fence.start())[1]
        found.append(
            Block(
                page,
                before.count("\n") + 1,
                section,
                fence["language"].strip(),
                re.sub(f"^{fence['indent']}", "", fence["text"], flags=re.MULTILINE),
                mark and mark["kind"],
                mark["reason"].strip() if mark else "",
            )
        )
    return found


def page_blocks(page: Path) -> list[Block]:
    """Read the blocks of a page of the repository."""
    return read_blocks(page.relative_to(ROOT).as_posix(), page.read_text(encoding="utf-8"))


def shell_commands(text: str) -> Iterator[list[str]]:
    """Split a script into its commands, as lists of words, without variables set before them and redirections."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        command: list[str] = []
        words = list(lexer)
        while words:
            word = words.pop(0)
            if re.fullmatch(r"[<>]+", word):
                words = words[1:]
            elif _OPERATORS.fullmatch(word):
                if command:
                    yield command
                command = []
            elif command or not re.fullmatch(r"\w+=.*", word):
                command.append(word)
        if command:
            yield command

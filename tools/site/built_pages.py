# SPDX-License-Identifier: MIT
"""Check of the built site: its pages load nothing from other hosts."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

# Links (`a`) may lead elsewhere: they load nothing until a reader follows them.
_LOADED = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "link": "href",
}
_PASSIVE_LINKS = {"canonical", "alternate", "next", "prev"}
_ELSEWHERE = re.compile(r"^(?:[a-z]+:)?//", re.IGNORECASE)
_STYLE_LOADS = re.compile(r"(?:url\(|@import)\s*[\"']?((?:[a-z]+:)?//[^\"')\s]+)", re.IGNORECASE)


class _Resources(HTMLParser):
    """Collects the addresses that a page loads from other hosts."""

    def __init__(self) -> None:
        super().__init__()
        self.elsewhere: list[str] = []
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self._in_style = tag == "style"
        address = attributes.get(_LOADED.get(tag, ""))
        passive = tag == "link" and set((attributes.get("rel") or "").split()) <= _PASSIVE_LINKS
        if address and not passive and _ELSEWHERE.match(address):
            self.elsewhere.append(address)
        self.elsewhere += _STYLE_LOADS.findall(attributes.get("style") or "")

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.elsewhere += _STYLE_LOADS.findall(data)


def loaded_from_elsewhere(folder: Path) -> dict[str, list[str]]:
    """List what the pages and style sheets of a built site load from other hosts, by file."""
    found = {}
    for path in sorted([*folder.rglob("*.html"), *folder.rglob("*.css")]):
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".css":
            elsewhere = _STYLE_LOADS.findall(text)
        else:
            resources = _Resources()
            resources.feed(text)
            elsewhere = resources.elsewhere
        if elsewhere:
            found[path.relative_to(folder).as_posix()] = elsewhere
    return found

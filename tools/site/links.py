# SPDX-License-Identifier: MIT
"""Links of Markdown files that work both on a git host and on the site.

A file links to others by their path in the repository. On the site, links to files that are pages lead to the page, and
show its title where their text is the file's name. Links to other files of the repository become the path as code,
since there is no public address of the repository.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path

_FENCED = re.compile(r"(^ *```.*?^ *```[^\n]*$)", re.DOTALL | re.MULTILINE)
# An image or a link; the text may hold inline code and line breaks.
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\[\]]*)\]\((?P<target>[^()\s]+)\)")
_HREF = re.compile(r'(?P<start><a [^>]*href=")(?P<target>[^"#]+\.(?:md|py))(?P<anchor>#[^"]*)?"')
_TITLE = re.compile(r"^# (.*)$", re.MULTILINE)
_INLINE_CODE = re.compile(r"(`[^`\n]+`)")
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|#", re.IGNORECASE)


def rewrite_links(markdown: str, source: Path, uri: str, uris: Mapping[Path, str], root: Path) -> str:
    """Rewrite the relative links of a page.

    Args:
        markdown: the page's text.
        source: the file that it comes from, absolute.
        uri: its path in the site's sources, with ``/``.
        uris: path in the site's sources of each file that is part of the site, by its absolute path.
        root: folder of the repository, absolute.

    Returns:
        The text with links that are right for `uri`.
    """

    def rewritten(link: re.Match[str]) -> str:
        target, text = link["target"], link["text"]
        if _ELSEWHERE.match(target):
            return link[0]
        path, hash_sign, anchor = target.partition("#")
        file = Path(posixpath.normpath((source.parent / path).as_posix()))
        if file in uris:
            to = posixpath.relpath(uris[file], posixpath.dirname(uri) or ".")
            if text == file.name and (title := _TITLE.search(file.read_text(encoding="utf-8"))):
                text = title[1]
            return f"{link['image']}[{text}]({to}{hash_sign}{anchor})"
        if not file.is_relative_to(root) or not file.exists():
            return link[0]  # MkDocs reports it
        name = file.relative_to(root).as_posix() + ("/" if file.is_dir() else "")
        return f"`{name}`" if text.strip("`/") in (name.strip("/"), file.name) else f"{text} (`{name}`)"

    parts = _FENCED.split(markdown)
    parts[::2] = [_keep_shapes(_LINK.sub(rewritten, part)) for part in parts[::2]]
    return "".join(parts)


def _keep_shapes(text: str) -> str:
    """Escape the brackets of ``[N][3]``, which Markdown would read as a link to a name."""
    parts = _INLINE_CODE.split(text)
    parts[::2] = [part.replace("][", r"]\[") for part in parts[::2]]
    return "".join(parts)


def rewrite_tutorial_links(html: str, uri: str, urls: Mapping[str, str]) -> str:
    """Rewrite the links of a tutorial, which mkdocs-jupyter leaves as they are, and add one to its file.

    Args:
        html: the rendered tutorial.
        uri: its path in the site's sources, ending in .py.
        urls: address of each page, relative to the tutorial's, by its path in the site's sources.

    Raises:
        ValueError: a link leads to no page.
    """

    def rewritten(link: re.Match[str]) -> str:
        if _ELSEWHERE.match(link["target"]):
            return link[0]
        to = posixpath.normpath(posixpath.join(posixpath.dirname(uri), link["target"]))
        if to not in urls:
            raise ValueError(f"{uri}: the link {link['target']} leads to no page of the site")
        return f'{link["start"]}{urls[to]}{link["anchor"] or ""}"'

    name = posixpath.basename(uri)
    download = f'<p>Download this tutorial as a script: <a href="{name}" download>{name}</a>.</p>'
    title, end, rest = _HREF.sub(rewritten, html).partition("</h1>")
    return f"{title}{end}{download}{rest}"

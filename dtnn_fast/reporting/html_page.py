# SPDX-License-Identifier: MIT
"""One HTML file with everything in it: style, scripts, plotly.js, 3Dmol.js and the content as JSON.

Texts of the content never become markup: the JSON has no ``<``, and the scripts write texts with `textContent`. The
content security policy of the page forbids every request, so that a page opens offline and sends nothing.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import optional_import
from ..files import replacing

PAGE_FOLDER = Path(__file__).parent / "page"
THIRD_PARTY = Path(__file__).parent / "third_party"
# SHA-256 of the third-party script as published: npm package 3dmol 2.5.5, file build/3Dmol-min.js.
VIEWER_SHA256 = "f7cc78921ae72e7623e89cdd111434f58c2efddd2ffda1cd212644b406fb8016"
# In the order in which they are run.
SCRIPTS = ("page.js", "figures.js", "structure.js", "crystal_panel.js", "crystal_table.js", "sections.js")
_PLACE = re.compile(r"<!-- insert (\w+) -->")


def write_page(path: Path, content: Mapping[str, Any]) -> None:
    """Write a page.

    Args:
        path: the HTML file; its folder is created if missing.
        content: what the scripts of the page read. Numbers that are not finite become null.

    Raises:
        MissingPackageError: the content has figures, and plotly is not installed.
    """
    text = render_page(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def render_page(content: Mapping[str, Any]) -> str:
    """Return the text of a page; see `write_page`."""
    scripts = [_read(THIRD_PARTY / "3Dmol-min.js")]
    if content.get("figures"):
        plotly = optional_import("plotly.offline", extra="report", purpose="draw the figures of a report")
        scripts.append(plotly.get_plotlyjs())
    scripts += [_read(PAGE_FOLDER / name) for name in SCRIPTS]
    licence = _read(THIRD_PARTY / "3Dmol-LICENSE.txt")
    parts = {
        "title": html.escape(str(content["title"])),
        "style": f"<style>\n{_read(PAGE_FOLDER / 'page.css')}</style>",
        "content": f'<script type="application/json" id="content">{to_script_json(content)}</script>',
        "scripts": "\n".join(f"<script>{no_end_tag(script)}</script>" for script in scripts),
        "licence": f'<script type="text/plain" id="licence-3dmol">\n{no_end_tag(licence)}</script>',
    }
    # One pass, so that nothing inside of a part is taken for a place.
    return _PLACE.sub(lambda match: parts[match[1]], _read(PAGE_FOLDER / "page.html"))


def to_script_json(content: Any) -> str:
    """Write JSON that can be inside a script element, whatever texts it contains."""
    text = json.dumps(_finite(content), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    # Half of a surrogate pair, from names of files that are no UTF-8, cannot be written.
    return text.encode("utf-8", errors="replace").decode("utf-8")


def _finite(value: Any) -> Any:
    """Replace numbers that are not finite by None, and shorten others to seven digits."""
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value


def no_end_tag(script: str) -> str:
    """Write a script so that it can stand inside of a script element."""
    return re.sub(r"</(?=script)", r"<\\/", script, flags=re.IGNORECASE)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")

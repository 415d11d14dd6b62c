# SPDX-License-Identifier: MIT
"""The web page of the service: one HTML file with its style and scripts, which asks the service alone.

The policy of the page names the checksums of its scripts and of its style: nothing else runs, whatever a crystal is
called. It shares scripts with the pages of `dtnn_fast.reporting`.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.responses import Response

from ..crystals.crystal import Crystal
from ..crystals.elements import SYMBOLS
from ..datasets.textbook_crystals import load_textbook
from ..formats.reading import FILE_FORMATS
from ..reporting.crystal_entries import nonmetal_symbols, radii_of
from ..reporting.html_page import PAGE_FOLDER, THIRD_PARTY, no_end_tag, to_script_json
from .schemas import ModelDescription, TextFormat

_FOLDER = Path(__file__).parent / "page"
_SHARED = [PAGE_FOLDER / name for name in ("page.js", "structure.js", "crystal_panel.js", "crystal_table.js")]
# Textbook crystals to try, and their names on the page.
_EXAMPLES = {
    "NaCl": "rock salt",
    "TiO2-rutile": "rutile",
    "SiO2": "quartz",
    "GaN": "wurtzite",
    "LiNbO3": "lithium niobate",
    "ZrO2": "baddeleyite",
    "SrTiO3": "perovskite",
}
_PLACE = re.compile(r"<!-- insert (\w+) -->")


class ServePage:
    """The page, made once.

    Args:
        model: description of the model.
    """

    def __init__(self, model: ModelDescription) -> None:
        texts = [_read(THIRD_PARTY / "3Dmol-min.js"), *map(_read, _SHARED), _read(_FOLDER / "serve.js")]
        scripts = [no_end_tag(text) for text in texts]
        style = "\n" + _read(PAGE_FOLDER / "page.css") + _read(_FOLDER / "serve.css")
        licence = no_end_tag(_read(THIRD_PARTY / "3Dmol-LICENSE.txt"))
        suffixes = [suffix for key in TextFormat for suffix in FILE_FORMATS[key].suffixes]
        parts = {
            "style": f"<style>{style}</style>",
            # POSCAR and CONTCAR have no ending, so that all files must be offered.
            "accepted": ",".join([*suffixes, "*/*"]),
            "content": f'<script type="application/json" id="content">{to_script_json(_content(model))}</script>',
            "licence": f'<script type="text/plain" id="licence-3dmol">\n{licence}</script>',
            "scripts": "\n".join(f"<script>{script}</script>" for script in scripts),
        }
        # One pass, so that nothing inside of a part is taken for a place.
        text = _PLACE.sub(lambda match: parts[match[1]], _read(_FOLDER / "serve.html"))
        self._body = text.encode()
        self._compressed = gzip.compress(self._body, mtime=0)
        self._policy = _policy(scripts, style)

    def answer(self, accepted_encodings: str) -> Response:
        """Answer a request for the page.

        Args:
            accepted_encodings: of the browser.
        """
        headers = {"content-security-policy": self._policy, "cache-control": "no-cache", "vary": "accept-encoding"}
        if "gzip" not in accepted_encodings:
            return Response(self._body, media_type="text/html", headers=headers)
        return Response(self._compressed, media_type="text/html", headers=headers | {"content-encoding": "gzip"})


def _policy(scripts: Sequence[str], style: str) -> str:
    """Allow our scripts and style, requests to the service, and pictures that scripts draw; nothing else."""
    allowed = " ".join(map(_checksum, scripts))
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_checksum(style)}; connect-src 'self'; "
        "img-src data: blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )


def _checksum(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _content(model: ModelDescription) -> dict[str, Any]:
    """What the scripts read; crystals come with the answers of the service."""
    targets = list(model.targets)
    return {
        "kind": "prediction",
        "version": model.dtnn_fast_version,
        "model": model.name,
        "has_born_charges": model.has_born_charges,
        "can_refine": model.can_refine,
        "limits": model.limits.model_dump(),
        "targets": targets,
        "main_target": "total" if "total" in targets else targets[-1],
        "crystals": [],
        "symbols": list(SYMBOLS),
        "radii": radii_of([{"elements": list(SYMBOLS[1:])}]),
        "nonmetals": nonmetal_symbols(),
        "formats": [[str(key), FILE_FORMATS[key].name] for key in TextFormat],
        "examples": _examples(model),
    }


def _examples(model: ModelDescription) -> list[dict[str, str]]:
    known = set(model.elements)
    by_id = {entry.crystal.id: entry for entry in load_textbook()}
    examples = []
    for id, label in _EXAMPLES.items():
        crystal = by_id[id].crystal
        if not known or known.issuperset(SYMBOLS[z] for z in crystal.atomic_numbers.tolist()):
            text = _poscar(crystal, by_id[id].name)
            examples.append(
                {"id": id, "label": label, "name": by_id[id].name, "formula": crystal.formula, "text": text}
            )
    return examples


def _poscar(crystal: Crystal, comment: str) -> str:
    symbols = [SYMBOLS[z] for z in crystal.atomic_numbers.tolist()]
    counts = Counter(symbols)
    rows = [
        (symbol, row)
        for wanted in counts
        for symbol, row in zip(symbols, crystal.positions, strict=True)
        if symbol == wanted
    ]

    def line(values: Any) -> str:
        return "  ".join(f"{value:12.8f}" for value in values)

    head = [
        comment,
        "1.0",
        *map(line, crystal.cell),
        " ".join(counts),
        " ".join(map(str, counts.values())),
        "Cartesian",
    ]
    return "\n".join([*head, *(line(row) for _, row in rows)]) + "\n"


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")

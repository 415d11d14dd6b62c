# SPDX-License-Identifier: MIT
"""Where the numbers of a page come from: commands, versions, model and input with checksums."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from .. import __version__

_NOT_RECORDED = "not recorded"
_MOST_PATHS = 20


def provenance_of(
    manifest: Mapping[str, Any] | None, summary: Mapping[str, Any] | None, command: str
) -> list[list[str]]:
    """List labels and texts.

    Args:
        manifest: content of manifest.json, or None where it is missing.
        summary: content of summary.json, or None where it is missing.
        command: command line that writes the page.

    Returns:
        Pairs of label and text; texts may have several lines.
    """
    known = {**(summary or {}), **(manifest or {})}
    model, source = known.get("model"), known.get("source")
    rows = [
        ["screening", _text(known.get("command"))],
        ["report", command],
        ["written", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, dtnn-fast {__version__}"],
        ["model", _named(model, "name")],
        ["input", _named(source, "paths")],
        ["versions", _listed(known.get("versions"))],
        ["settings", _listed(known.get("settings"))],
        ["format", _text(known.get("format"))],
    ]
    missing = [name for name, content in (("manifest.json", manifest), ("summary.json", summary)) if content is None]
    if missing:
        rows.append(["missing files", f"{' and '.join(missing)}: is the screening complete?"])
    return rows


def _named(value: Any, name: str) -> str:
    """Write what an object names, a line each, then its other values."""
    if not isinstance(value, Mapping):
        return _text(value)
    names = value.get(name)
    lines = names if isinstance(names, list) else [names]
    if name == "paths" and lines == []:
        lines = ["the crystals that come with dtnn-fast"]
    shown = [_text(line) for line in lines[:_MOST_PATHS]]
    if len(lines) > _MOST_PATHS:
        shown.append(f"and {len(lines) - _MOST_PATHS:,} more")
    others = [f"{key} {_text(other)}" for key, other in value.items() if key != name and other is not None]
    return "\n".join([*shown, *others])


def _listed(value: Any) -> str:
    if not isinstance(value, Mapping):
        return _text(value)
    return "\n".join(f"{name} {_text(setting)}" for name, setting in value.items()) or _NOT_RECORDED


def _text(value: Any) -> str:
    if value is None or value in ("", []):
        return _NOT_RECORDED
    if isinstance(value, list) and all(isinstance(inner, str) for inner in value):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

# SPDX-License-Identifier: MIT
"""Read JSON files: one structure, or a container of structures."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..crystals.crystal import Crystal, Rejected
from ..errors import BadFileError
from ..files import parse_json
from .file_ids import default_id
from .json_containers import documents_in
from .json_structures import read_document, structure_of

NO_STRUCTURE = (
    'no structure in it: expected pymatgen\'s Structure.as_dict(), documents with a "structure", or structures of '
    "OPTIMADE, JARVIS or ASE"
)


def read_json(path: Path, text: str) -> Iterator[Crystal | Rejected]:
    """Read the structures of a JSON file.

    Structures are those of pymatgen (``Structure.as_dict()``), OPTIMADE, JARVIS and ASE, alone or in a document with
    other data. `json_containers.documents_in` lists the containers.

    Raises:
        BadFileError: the file is not valid JSON, or has no structure.
    """
    try:
        value = parse_document(text)
    except RecursionError as error:
        raise BadFileError(f"{path}: not valid JSON: nested too deeply") from error
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and error.colno == 1:
            raise BadFileError(f"{path}: looks like JSON lines, whose name should end in .jsonl") from error
        # An error at the very end of the text means that the rest is missing.
        is_truncated = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
        reason = "the file is truncated" if is_truncated else "not valid JSON"
        raise BadFileError(f"{path}: {reason}: {error}") from error
    except ValueError as error:
        raise BadFileError(f"{path}: not valid JSON: {error}") from error

    try:
        documents = documents_in(value, default_id(path))
    except RecursionError as error:
        raise BadFileError(f"{path}: its values are nested too deeply") from error
    except ValueError as error:
        raise BadFileError(f"{path}: not a table of pandas: {error}") from error
    if not any(structure_of(document) is not None for _, document in documents):
        classes = sorted(set(_classes_in(value)))
        got = f", got {', '.join(classes)}" if classes else ""
        raise BadFileError(f"{path}: {NO_STRUCTURE}{got}")
    for name, document in documents:
        yield read_document(document, name, str(path) if len(documents) == 1 else f"{path} ({name})")


def _classes_in(value: Any, depth: int = 0) -> Iterator[str]:
    """Yield the names of pymatgen's classes near the top, for messages."""
    if isinstance(value, Mapping) and isinstance(value.get("@class"), str):
        yield value["@class"]
    elif isinstance(value, Mapping | list) and depth < 2:
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _classes_in(inner, depth + 1)


def parse_document(text: str) -> Any:
    """Parse JSON; NaN and Infinity are numbers, as Python writes them.

    Args:
        text: the text.

    Raises:
        ValueError: it is not valid JSON, or a key occurs twice in one object.
        RecursionError: it is nested too deeply.
    """
    return parse_json(text, object_pairs_hook=object_of_pairs)


def object_of_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object; Python would silently keep the last of several equal keys."""
    values = dict(pairs)
    if len(values) < len(pairs):
        (repeated, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {repeated!r} occurs twice in one object")
    return values

# SPDX-License-Identifier: MIT
"""Labelled crystals in the form that the paper's public repository trains on.

The repository (https://github.com/pfnet-research/dielectric-pred: data/dataset.py, notebooks/dielectric_tensor.ipynb)
reads a JSON object ``{id: {"structure": pymatgen's Structure, "electronic": 3x3, ...}}`` from data/mp_dielectric.json,
a file that was not found in it; so the file must be given.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...crystals.crystal import Crystal
from ...errors import BadFileError
from ...files import sha256_of
from ...formats.reading import read_text
from .source import Dropped, Fetched, Tensors, Why, labelled_crystal

_SOURCE = "pfnet-research/dielectric-pred"


def fetch_paper(file: Path, limit: int | None = None) -> Fetched:
    """Read a JSON file in the form of the paper's repository.

    Args:
        file: .json or .json.gz.
        limit: at most so many entries, or None for all.

    Returns:
        The crystals in the order of the file; of the tensors "electronic", "ionic" and "total", two must be there, or
        the total one.

    Raises:
        BadFileError: the file is damaged, or of another kind.
    """
    entries = _entries(file)[:limit]
    checksum = sha256_of(file)
    record: dict[str, Any] = {
        "file": file.name,
        "sha256": checksum,
        "database_version": f"SHA-256 {checksum[:12]}",
    }
    record |= {"query": {"limit": limit}, "rows": len(entries)}
    return Fetched((_row(name, entry) for name, entry in entries), record)


class _Object(dict[str, Any]):
    """A JSON object that remembers the values of keys that occur again, which a dict would overwrite without a word."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(reversed(pairs))  # the first of several values stays
        self.pairs = pairs


def _entries(path: Path) -> list[tuple[str, Any]]:
    try:
        entries = json.loads(read_text(path), object_pairs_hook=_Object)
    except (ValueError, RecursionError) as error:
        if isinstance(error, BadFileError):
            raise
        raise BadFileError(f"{path}: not valid JSON: {error}") from error
    pairs = entries.pairs if isinstance(entries, _Object) else []
    if not any(isinstance(entry, Mapping) and "structure" in entry for _, entry in pairs):
        raise BadFileError(
            f'{path}: not in the form of the paper\'s repository: expected {{id: {{"structure": ..., "total": 3x3}}}}'
        )
    return pairs


def _row(name: str, entry: Any) -> Crystal | Dropped:
    if not isinstance(entry, Mapping):
        return Dropped.of(Why.ROW, name, _SOURCE, f"expected a JSON object, got {type(entry).__name__}")
    structure = entry.get("structure")
    if structure is not None and not isinstance(structure, Mapping):
        return Dropped.of(Why.BAD_STRUCTURE, name, _SOURCE, "the structure is no JSON object of pymatgen")
    return labelled_crystal(name, _SOURCE, structure, Tensors(*(entry.get(part) for part in Tensors._fields)))

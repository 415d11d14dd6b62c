# SPDX-License-Identifier: MIT
"""Labelled crystals in the form that the paper's public repository trains on.

The repository (https://github.com/pfnet-research/dielectric-pred: data/dataset.py, notebooks/dielectric_tensor.ipynb)
reads a JSON object ``{id: {"structure": pymatgen's Structure, "electronic": 3x3, ...}}`` from data/mp_dielectric.json.
This file was not found in the repository, so it must be given.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...crystals.crystal import Crystal
from ...errors import BadFileError
from ...files import parse_json, sha256_of
from ...formats.text_files import read_text
from .source import (
    DataSource,
    DroppedRow,
    DropReason,
    PublishedTensors,
    SourceRows,
    TensorFrame,
    labelled_crystal,
)

PAPER = DataSource(
    "paper",
    "JSON of the repository pfnet-research/dielectric-pred",
    TensorFrame.cell,
    "the licence of the file's origin",
    ("Z. Mao, W. Li and J. Tan, https://doi.org/10.1038/s41524-024-01450-z, https://arxiv.org/abs/2405.09052",),
)
_SOURCE = "pfnet-research/dielectric-pred"


def fetch_paper(file: Path, limit: int | None = None) -> SourceRows:
    """Read a JSON file in the form of the paper's repository.

    Args:
        file: .json or .json.gz.
        limit: maximum number of entries, or None for all.

    Returns:
        The crystals in the order of the file. An entry needs the tensor "total", or two of "electronic", "ionic" and
        "total".

    Raises:
        BadFileError: the file is damaged, or of another format.
    """
    entries = _read_entries(file)[:limit]
    checksum = sha256_of(file)
    provenance: dict[str, Any] = {
        "file": file.name,
        "sha256": checksum,
        "database_version": f"SHA-256 {checksum[:12]}",
    }
    provenance |= {"query": {"limit": limit}, "rows": len(entries)}
    return SourceRows((_read_entry(name, entry) for name, entry in entries), provenance)


class _ObjectWithRepeatedKeys(dict[str, Any]):
    """A JSON object that keeps all pairs, because a dict silently overwrites the value of a repeated key."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(reversed(pairs))  # the first value of a repeated key stays
        self.pairs = pairs


def _read_entries(path: Path) -> list[tuple[str, Any]]:
    try:
        entries = parse_json(read_text(path), object_pairs_hook=_ObjectWithRepeatedKeys)
    except (ValueError, RecursionError) as error:
        if isinstance(error, BadFileError):
            raise
        raise BadFileError(f"{path}: not valid JSON: {error}") from error
    pairs = entries.pairs if isinstance(entries, _ObjectWithRepeatedKeys) else []
    if not any(isinstance(entry, Mapping) and "structure" in entry for _, entry in pairs):
        raise BadFileError(
            f'{path}: not in the form of the paper\'s repository: expected {{id: {{"structure": ..., "total": 3x3}}}}'
        )
    return pairs


def _read_entry(name: str, entry: Any) -> Crystal | DroppedRow:
    if not isinstance(entry, Mapping):
        return DroppedRow.make(
            DropReason.UNREADABLE_ROW, name, _SOURCE, f"expected a JSON object, got {type(entry).__name__}"
        )
    structure = entry.get("structure")
    if structure is not None and not isinstance(structure, Mapping):
        return DroppedRow.make(
            DropReason.BAD_STRUCTURE, name, _SOURCE, "the structure is not a JSON object of pymatgen"
        )
    tensors = PublishedTensors(*(entry.get(target) for target in PublishedTensors._fields))
    return labelled_crystal(name, _SOURCE, structure, tensors)

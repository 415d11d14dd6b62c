# SPDX-License-Identifier: MIT
"""Packing of crystals from any files into one folder of Parquet shards, which is read faster and by many processes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..formats.crystal_shards import FORMAT, LIST_FILE, crystals_to_table
from .finish import make_ids_unique, mark_duplicates
from .input_chunks import ScreeningInput
from .parts import Parts, num_rows
from .preparation import Preparation
from .readers import prepared_pieces
from .screening_run import InputProgress, ScreeningEvents, ScreeningOptions, SilentEvents, find_remaining
from .synced_files import write_text_synced

# Symmetry operations are stored of crystals of up to this size: larger ones can take long to search.
SEARCH_TO_ATOMS = 200


@dataclass(frozen=True)
class PackingOptions:
    """Options of packing.

    Args:
        cell: "primitive" or "conventional" for crystals in such cells; None to keep them as they are.
        find_symmetry: whether space group, prototype and symmetry operations are found and stored.
        find_duplicates: whether crystals with the structure of an earlier one are marked.
        num_readers: processes that read; 0 for none.
    """

    cell: str | None = None
    find_symmetry: bool = True
    find_duplicates: bool = True
    num_readers: int = 0


class PackedCounts(NamedTuple):
    """Contents of a packed folder.

    Args:
        crystals: number of crystals.
        shards: number of shards.
        renamed: number of ids that occurred before.
        duplicates: number of marked duplicates; None where they were not searched for.
    """

    crystals: int
    shards: int
    renamed: int
    duplicates: int | None


def packing_manifest(inputs: ScreeningInput, paths: list[str], options: PackingOptions, command: str) -> dict[str, Any]:
    """Make the manifest of a packed folder; see `Parts.begin`."""
    return {
        "model": None,
        "source": {"paths": paths, "num_chunks": len(inputs.chunks), "sha256": inputs.sha256},
        "settings": {"cell": options.cell, "find_symmetry": options.find_symmetry},
        "command": command,
    }


def pack_crystals(
    inputs: ScreeningInput, parts: Parts, options: PackingOptions, events: ScreeningEvents | None = None
) -> None:
    """Write the shards of all pieces that have none yet.

    Args:
        inputs: of `plan_files`.
        parts: the folder, with the stem "shard"; `Parts.begin` was called.
        options: how it is done.
        events: told what happens.

    Raises:
        BadFileError: a shard cannot be written.
        KeyboardInterrupt: Ctrl-C; finished shards are kept, and the next call continues.
    """
    events = events or SilentEvents()
    chunks, done = find_remaining(inputs, parts, ScreeningOptions(), events)
    search = (1, SEARCH_TO_ATOMS) if options.find_symmetry else None
    preparation = Preparation((), search, options.cell, options.find_symmetry)
    progress = InputProgress()
    for piece in prepared_pieces(inputs, chunks, done, preparation, options.num_readers, events.on_message):
        table = crystals_to_table(piece.crystals)
        parts.write(
            *(piece.chunk, piece.piece, table, piece.rejected), is_complete=True, is_last=piece.is_last, key=piece.key
        )
        events.on_crystals(len(piece.crystals) + len(piece.rejected))
        events.on_piece(progress.advance(piece.chunk, piece.size_read), len(piece.rejected))


def finish_packing(parts: Parts, options: PackingOptions, manifest: dict[str, Any]) -> PackedCounts:
    """Make ids unique, mark duplicates, and list the shards with their checksums in ``packed.json``.

    Args:
        parts: the folder, with all shards.
        options: see `PackingOptions`.
        manifest: of `packing_manifest`; its source and command go into the list.
    """
    files = parts.part_files()
    renamed = make_ids_unique(files)
    duplicates = mark_duplicates(files) if options.find_duplicates and options.find_symmetry else None
    counts = [num_rows(file) for file in files]
    num_crystals = sum(counts)
    shards = [
        {"name": file.name, "crystals": count, "sha256": _sha256(file)}
        for file, count in zip(files, counts, strict=True)
    ]
    listing = {
        "format": FORMAT,
        "crystals": num_crystals,
        "duplicates": duplicates,
        "source": manifest["source"],
        "settings": manifest["settings"],
        "command": manifest["command"],
        "shards": shards,
    }
    write_text_synced(parts.folder / LIST_FILE, json.dumps(listing, indent=2) + "\n")
    return PackedCounts(num_crystals, len(files), renamed, duplicates)


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()

# SPDX-License-Identifier: MIT
"""Reading and preparation by a process that says beforehand what it works on, to find what kills such processes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from ..crystals.crystal import Crystal, Rejected
from .input_chunks import KILLED, Chunk, Piece
from .preparation import Preparation, Prepared


class WorkingOn(NamedTuple):
    """The item that a reader works on.

    Args:
        file: the file that it reads; "" while it prepares a crystal.
        piece: number of the crystal's piece.
        place: number of the crystal in the piece.
        label: name of the crystal.
    """

    file: str = ""
    piece: int = -1
    place: int = -1
    label: str = ""


def announced_files(
    chunk: Chunk, skipped: Collection[str], announce: Callable[[WorkingOn], None]
) -> Iterator[Crystal | Rejected]:
    """Read a chunk, and say before each item which file it comes from.

    Args:
        chunk: the chunk.
        skipped: files that give a Rejected.
        announce: called before each item.
    """
    for name, file_id in zip(chunk.files, chunk.file_ids, strict=True):
        announce(WorkingOn(name))
        for item in chunk.read_file(name, file_id, skipped):
            yield item
            # The consumer may have prepared crystals in between.
            announce(WorkingOn(name))


def announced_preparation(
    piece: Piece, preparation: Preparation, skipped: Collection[tuple[int, int]], announce: Callable[[WorkingOn], None]
) -> Prepared:
    """Prepare the crystals of a piece one by one, and say before each which one it is.

    Args:
        piece: the piece.
        preparation: what is done.
        skipped: pieces and places in them of crystals that give a Rejected.
        announce: called before each crystal.
    """
    prepared = Prepared([], [])
    for place, item in enumerate(piece.items):
        if (piece.number, place) in skipped:
            prepared.rejected.append(Rejected(item.id, item.source, f"the process that searched its symmetry {KILLED}"))
            continue
        if isinstance(item, Crystal):
            announce(WorkingOn("", piece.number, place, item.label))
        alone = preparation.prepare([item])
        prepared.crystals.extend(alone.crystals)
        prepared.rejected.extend(alone.rejected)
    return prepared

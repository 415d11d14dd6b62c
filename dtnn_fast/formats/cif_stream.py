# SPDX-License-Identifier: MIT
"""Read large CIF files block by block, as databases write them: thousands of data blocks in one file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

from ..crystals.crystal import Crystal, Rejected
from ..errors import BadFileError
from .cif import NO_CRYSTAL, read_cif
from .compressed import uncompressed_name
from .text_files import lines_of


def stream_cif(path: Path, chunks: Iterable[str]) -> Iterator[Crystal | Rejected]:
    """Read a large file as `cif.read_cif` does, with one data block in memory.

    A block that is not valid CIF does not stop the others. Where names of blocks repeat, those after the first have the
    number of the block as a suffix.

    Args:
        path: the file, for names and messages.
        chunks: its text in parts.

    Raises:
        BadFileError: no data block has a cell and atoms, or the text cannot be read to its end.
        MissingPackageError: gemmi is not installed.
    """
    items = _items(path, _blocks(path, chunks))
    first = list(islice(items, 2))
    if not first:
        raise BadFileError(f"{path}: {NO_CRYSTAL}")
    if len(first) == 1:
        yield first[0][1]
        return
    seen: set[str] = set()
    for number, (block, item) in enumerate(chain(first, items), start=1):
        name = f"{block}:{number}" if block in seen else block
        seen.add(block)
        yield replace(item, id=f"{item.id}:{name}", source=f"{path} (data_{name})")


def _items(path: Path, blocks: Iterable[tuple[str, str]]) -> Iterator[tuple[str, Crystal | Rejected]]:
    """Yield the name of each block with atoms and its crystal, which is named after the file alone."""
    stem = uncompressed_name(path.name).rsplit(".", 1)[0]
    for name, text in blocks:
        try:
            for item in read_cif(path, text):
                yield name, item
        except BadFileError as error:
            # Journals put text into separate blocks, without a crystal.
            if NO_CRYSTAL not in str(error):
                yield name, Rejected.from_error(error, stem, str(path))


def _blocks(path: Path, chunks: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each data block."""
    name, lines = "", [""]
    in_text = False
    for line, _ in lines_of(path, chunks):
        if line.startswith(";"):
            in_text = not in_text
        elif not in_text and line[:5].lower() == "data_":
            if name:
                yield name, "\n".join(lines)
                lines = []
            name = line[5:].split()[0] if line[5:].split() else "?"
        lines.append(line)
    yield name or "?", "\n".join([*lines, ""])

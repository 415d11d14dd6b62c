# SPDX-License-Identifier: MIT
"""The input of a screening, cut into chunks that are read independently, always in the same way.

Chunks and the pieces of a chunk depend on the input alone, so that a screening that was stopped can go on, several
processes can share one, and all of them write the same files.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..crystals.crystal import Crystal, Rejected
from ..errors import BadFileError
from ..formats.file_ids import default_id, unique_default_ids, with_file_id
from ..formats.find_files import read_files
from ..formats.property_table import PropertyTable
from ..formats.read_position import bytes_read
from .sources import open_source

# Small files are read together up to these limits; a larger file is a chunk of its own.
FILES_TOGETHER, BYTES_TOGETHER = 512, 8 * 2**20
# A piece ends with the crystal that reaches one of these.
PIECE_CRYSTALS, PIECE_ATOMS = 4096, 65_536
# Files that a screening writes into its folder.
_RESULT = re.compile(
    r"(part|rejected)-\d{6}-\d{4}\.parquet|(manifest|summary)\.json|(ranking|unranked|rejected)\.csv|.*\.unfinished"
)
# Reason for what a reading process died on.
KILLED = "was killed: it may need more memory than there is"


@dataclass(frozen=True)
class Chunk:
    """Some crystals of the input: those of some files, or of a range of crystals in memory.

    Args:
        files: files to read, in order.
        file_ids: the id of each file, which replaces its default id.
        tables: tables of properties, which are joined to the crystals by their ids.
        start: number of the first crystal in memory; used where there are no files.
        stop: number after the last crystal.
        size: bytes of the files, or number of crystals, for the progress.
    """

    files: tuple[str, ...] = ()
    file_ids: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    start: int = 0
    stop: int = 0
    size: int = 0

    def read(self, in_memory: Sequence[Crystal] = (), skipped: Collection[str] = ()) -> Iterator[Crystal | Rejected]:
        """Read the crystals; what cannot be read gives a Rejected and never stops the others.

        Args:
            in_memory: the crystals in memory, for a chunk without files.
            skipped: files that are known to end the process that reads them; each gives a Rejected.
        """
        if not self.files:
            yield from in_memory[self.start : self.stop]
        for name, file_id in zip(self.files, self.file_ids, strict=True):
            yield from self.read_file(name, file_id, skipped)

    def size_read(self) -> int:
        """Return about how much of `size` this thread has read, for a chunk of one large file; 0 for others."""
        return min(bytes_read(Path(self.files[0])), self.size) if len(self.files) == 1 else 0

    def read_file(self, name: str, file_id: str, skipped: Collection[str] = ()) -> Iterator[Crystal | Rejected]:
        """Read one file of a chunk; see `read`."""
        path = Path(name)
        if name in skipped:
            yield Rejected(path.name, name, f"the process that read it {KILLED}")
            return
        default = default_id(path)
        for item in read_files([path], unique_ids=False, tables=[load_table(table) for table in self.tables]):
            yield with_file_id(item, default, file_id)


class ScreeningInput(NamedTuple):
    """Input of a screening.

    Args:
        chunks: in order.
        in_memory: crystals that are not in files.
        rejected: given paths that are missing or cannot be read.
        num_left_out: bundled crystals that are left out because the model does not know all their elements.
        notice: one line for the user about what is screened or skipped; may be empty.
        sha256: a checksum of the names, sizes and times of change of the files, or of the crystals in memory.
    """

    chunks: list[Chunk]
    in_memory: Sequence[Crystal] = ()
    rejected: Sequence[Rejected] = ()
    num_left_out: int = 0
    notice: str = ""
    sha256: str = ""

    @property
    def unit(self) -> str:
        """What `Chunk.size` counts: "crystals" or "bytes"."""
        return "crystals" if self.in_memory else "bytes"


def plan_files(paths: Sequence[Path], output: Path | None = None) -> ScreeningInput:
    """Cut files and folders into chunks.

    Args:
        paths: files, folders of files, and folders of ``dtnn-fast pack``.
        output: the folder of the screening, whose own results are no input; ``dtnn-fast screen .`` finds it too.
    """
    source = open_source(paths, ())
    rejected = list(source.rejected)
    tables = []
    for table in source.tables:
        try:
            load_table(str(table))
            tables.append(str(table))
        except (BadFileError, OSError) as error:
            rejected.append(Rejected.from_error(error, table.name, str(table)))
    files = [file for file in source.files if not _is_result(file, output)]
    digest = hashlib.sha256()
    for file in source.tables:
        digest.update(f"{file}\0{_size_and_time(file)}\n".encode("utf-8", "surrogateescape"))
    sizes = []
    for file in files:
        size, changed = _size_and_time(file)
        sizes.append(size)
        digest.update(f"{file}\0{size}\0{changed}\n".encode("utf-8", "surrogateescape"))
    ids = unique_default_ids(files)
    chunks = list(_group(files, sizes, [ids[file] for file in files], tuple(tables)))
    return ScreeningInput(chunks, (), rejected, 0, source.notice, digest.hexdigest())


def plan_crystals(crystals: Sequence[Crystal], notice: str = "", num_left_out: int = 0) -> ScreeningInput:
    """Cut crystals in memory into chunks.

    Args:
        crystals: the crystals.
        notice: see `ScreeningInput`.
        num_left_out: see `ScreeningInput`.
    """
    digest = hashlib.sha256()
    for crystal in crystals:
        digest.update(crystal.id.encode())
        for array in (crystal.atomic_numbers, crystal.positions, crystal.cell):
            digest.update(array.tobytes())
    starts = range(0, len(crystals), PIECE_CRYSTALS)
    ends = [min(start + PIECE_CRYSTALS, len(crystals)) for start in starts]
    chunks = [Chunk(start=start, stop=stop, size=stop - start) for start, stop in zip(starts, ends, strict=True)]
    return ScreeningInput(chunks, crystals, (), num_left_out, notice, digest.hexdigest())


def plan_bundled(known_elements: Collection[int]) -> ScreeningInput:
    """Cut the bundled crystals that can be insulators into chunks.

    Args:
        known_elements: atomic numbers that the model knows; empty for all. Crystals with others are left out.
    """
    source = open_source([], known_elements)
    return plan_crystals(source.crystals, source.notice, source.num_left_out)


class PieceKey(NamedTuple):
    """Checksums of the ids and numbers of atoms in a piece, which tell it from another one of the same number.

    A file that could not be read may be readable at the next start; crystals are then in other pieces.

    Args:
        previous: `own` of the piece before; "" for the first one.
        own: of this piece and all pieces before it.
    """

    previous: str = ""
    own: str = ""

    def following(self, items: Iterable[Crystal | Rejected]) -> PieceKey:
        """Compute the key of the piece that follows.

        Args:
            items: of that piece.
        """
        digest = hashlib.sha256(self.own.encode())
        for item in items:
            size = str(item.num_atoms) if isinstance(item, Crystal) else "rejected"
            digest.update(f"{item.id}\0{size}\n".encode("utf-8", "surrogatepass"))
        return PieceKey(self.own, digest.hexdigest()[:32])


class Piece(NamedTuple):
    """Consecutive items of a chunk.

    Args:
        number: place among the pieces of the chunk, from 0.
        items: crystals, and a Rejected for each one that cannot be read.
        is_last: whether the chunk ends with it.
        key: tells it from a piece of the same number that an earlier start read.
    """

    number: int
    items: list[Crystal | Rejected]
    is_last: bool
    key: PieceKey


def pieces(items: Iterable[Crystal | Rejected]) -> Iterator[Piece]:
    """Cut the items of a chunk into pieces of up to `PIECE_CRYSTALS` items or `PIECE_ATOMS` atoms; at least one piece.

    Args:
        items: of `Chunk.read`.
    """
    number, num_atoms, key = 0, 0, PieceKey()
    gathered: list[Crystal | Rejected] = []
    for item in items:
        if len(gathered) >= PIECE_CRYSTALS or num_atoms >= PIECE_ATOMS:
            key = key.following(gathered)
            yield Piece(number, gathered, False, key)
            number, num_atoms, gathered = number + 1, 0, []
        gathered.append(item)
        num_atoms += item.num_atoms if isinstance(item, Crystal) else 0
    yield Piece(number, gathered, True, key.following(gathered))


def _group(files: Sequence[Path], sizes: Sequence[int], ids: Sequence[str], tables: tuple[str, ...]) -> Iterator[Chunk]:
    start, total = 0, 0
    for place, size in enumerate(sizes):
        is_full = place - start >= FILES_TOGETHER or total + size > BYTES_TOGETHER
        # A Parquet file is a chunk of its own, so that many processes can share a packed folder.
        if place > start and (is_full or ".parquet" in (files[place].suffix, files[start].suffix)):
            yield _chunk(files, ids, tables, slice(start, place), total)
            start, total = place, 0
        total += size
    if files:
        yield _chunk(files, ids, tables, slice(start, len(files)), total)


def _chunk(files: Sequence[Path], ids: Sequence[str], tables: tuple[str, ...], which: slice, size: int) -> Chunk:
    names = tuple(str(file) for file in files[which])
    # Empty files count too, or a folder of them would have no progress.
    return Chunk(names, tuple(ids[which]), tables, size=size + len(names))


def load_table(path: str) -> PropertyTable:
    """Read a table of properties once in each process, and again where it has changed.

    Args:
        path: the file.
    """
    return _load_table(path, _size_and_time(Path(path)))


@functools.lru_cache(maxsize=16)
def _load_table(path: str, version: tuple[int, int]) -> PropertyTable:
    del version  # the cache compares it
    return PropertyTable.read(path)


def _size_and_time(file: Path) -> tuple[int, int]:
    try:
        found = os.stat(file)
    except OSError:  # reading will say why
        return 0, 0
    return found.st_size, found.st_mtime_ns


def _is_result(file: Path, output: Path | None) -> bool:
    return output is not None and _RESULT.fullmatch(file.name) is not None and file.parent.resolve() == output.resolve()

# SPDX-License-Identifier: MIT
"""The folder of a screening: parts that are complete or not there, and a manifest that says what they belong to."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..crystals.crystal import Rejected
from ..errors import BadFileError, DTNNError, optional_import
from ..files import read_json_object

FORMAT = "dtnn_fast screening 1"
MANIFEST_FILE = "manifest.json"
_PART = re.compile(r"(part|rejected)-(\d{6})-(\d{4})\.parquet")
_UNFINISHED = ".unfinished"
# Whether a part has all crystals of its piece, and whether its chunk ends with it.
_COMPLETE, _LAST = b"dtnn_fast_complete", b"dtnn_fast_last"


class Parts:
    """The parts of a screening in a folder.

    A part is written to a temporary name, synced and renamed, after the file of its rejected crystals: where it exists
    it is whole. A part of a piece that was interrupted is marked, and written again by the next start.

    Args:
        folder: an existing folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def part(self, chunk: int, piece: int) -> Path:
        """Return the path of the predictions of a piece."""
        return self.folder / f"part-{chunk:06d}-{piece:04d}.parquet"

    def rejected(self, chunk: int, piece: int) -> Path:
        """Return the path of the rejected crystals of a piece; there is no such file where none was rejected."""
        return self.folder / f"rejected-{chunk:06d}-{piece:04d}.parquet"

    def part_files(self) -> list[Path]:
        """List the parts in the order of the input."""
        return self._files("part")

    def rejected_files(self) -> list[Path]:
        """List the files of rejected crystals in the order of the input."""
        return self._files("rejected")

    def _files(self, kind: str) -> list[Path]:
        names = sorted(
            name for name in os.listdir(self.folder) if (found := _PART.fullmatch(name)) and found[1] == kind
        )
        return [self.folder / name for name in names]

    def write(
        self, chunk: int, piece: int, table: Any, rejected: Sequence[Rejected], is_complete: bool, is_last: bool
    ) -> None:
        """Write a piece.

        Args:
            chunk: number of its chunk.
            piece: number of the piece in it.
            table: its predictions, a `pyarrow.Table`.
            rejected: its rejected crystals.
            is_complete: False where it was interrupted.
            is_last: whether the chunk ends with it.

        Raises:
            BadFileError: the file cannot be written, for example because the disk is full. What was there before stays.
        """
        file = self.rejected(chunk, piece)
        if rejected:
            write_synced(file, rejected_table(rejected))
        else:
            file.unlink(missing_ok=True)
        about = {_COMPLETE: str(is_complete).encode(), _LAST: str(is_last).encode()}
        write_synced(self.part(chunk, piece), table.replace_schema_metadata({**(table.schema.metadata or {}), **about}))

    def done(
        self,
        on_damaged: Callable[[Path, str], None] = lambda path, reason: None,
        chunks: Collection[int] | None = None,
    ) -> dict[int, set[int]]:
        """List the pieces that are complete, and remove what a stopped process left half written.

        Args:
            on_damaged: called with a part that cannot be read and the reason; it is computed again.
            chunks: numbers of the chunks that nobody else writes now; only their leftovers are removed. None for all.

        Returns:
            Numbers of the pieces by chunk.
        """
        self.remove_leftovers(chunks)
        found: dict[int, set[int]] = {}
        for file, about in self._each_about(on_damaged):
            if about.get(_COMPLETE) == b"True":
                chunk, piece = _numbers(file)
                found.setdefault(chunk, set()).add(piece)
        return found

    def remove_leftovers(self, chunks: Collection[int] | None = None) -> None:
        """Remove what killed processes left half written.

        Args:
            chunks: numbers of the chunks that nobody else writes now; None for everything.
        """
        for left in self.folder.glob(f"*{_UNFINISHED}"):
            part = _PART.match(left.name)
            if chunks is None or (part is not None and int(part[2]) in chunks):
                left.unlink(missing_ok=True)

    def finished_chunks(self) -> set[int]:
        """List the chunks of which all pieces are complete."""
        complete: dict[int, set[int]] = {}
        last: dict[int, int] = {}
        for file, about in self._each_about(lambda path, reason: None):
            chunk, piece = _numbers(file)
            if about.get(_COMPLETE) == b"True":
                complete.setdefault(chunk, set()).add(piece)
                if about.get(_LAST) == b"True":
                    last[chunk] = piece
        return {chunk for chunk, piece in last.items() if complete[chunk] >= set(range(piece + 1))}

    def _each_about(self, on_damaged: Callable[[Path, str], None]) -> Iterator[tuple[Path, Mapping[bytes, bytes]]]:
        pa = optional_import("pyarrow", extra="cli", purpose="read the parts of a screening")
        parquet = optional_import("pyarrow.parquet", extra="cli", purpose="read the parts of a screening")
        for file in self.part_files():
            try:
                yield file, parquet.read_schema(file).metadata or {}
            except (OSError, pa.ArrowException) as error:
                on_damaged(file, str(error))

    def remove(self) -> None:
        """Remove all parts and the manifest, to begin anew."""
        (self.folder / MANIFEST_FILE).unlink(missing_ok=True)
        for file in [*self.part_files(), *self.rejected_files(), *self.folder.glob(f"*{_UNFINISHED}")]:
            file.unlink(missing_ok=True)

    def manifest(self) -> dict[str, Any] | None:
        """Read the manifest; None where there is none.

        Raises:
            BadFileError: it is damaged, or of another format.
        """
        path = self.folder / MANIFEST_FILE
        if not path.exists():
            return None
        values = read_json_object(path)
        if values.get("format") != FORMAT:
            raise BadFileError(f"{path}: expected the manifest of a screening (format {FORMAT!r})")
        return values

    def begin(self, manifest: Mapping[str, Any]) -> None:
        """Write the manifest, or check that the folder belongs to the same screening.

        Args:
            manifest: `model` and `source` and `settings` decide which screening it is.

        Raises:
            DTNNError: the folder has the parts of another screening.
        """
        before = self.manifest()
        if before is None:
            if self.part_files():
                raise DTNNError(
                    f"{self.folder}: has parts of a screening without its {MANIFEST_FILE}: choose another --output, or "
                    "--fresh to remove them"
                )
            write_text_synced(self.folder / MANIFEST_FILE, json.dumps({"format": FORMAT, **manifest}, indent=2) + "\n")
            return
        for key, what in (("model", "another model"), ("source", "other files"), ("settings", "other settings")):
            if before.get(key) != json.loads(json.dumps(manifest[key])):
                raise DTNNError(
                    f"{self.folder}: holds a screening of {what}: choose another --output, or --fresh to replace it"
                    f"{_difference(before.get(key), manifest[key])}"
                )

    @contextmanager
    def locked(self, name: str = "screening") -> Iterator[None]:
        """Keep other processes from writing the same parts; a lock ends with its process, however that ends.

        Args:
            name: what is written: a shard, or everything.

        Raises:
            DTNNError: another process holds the lock.
        """
        with (self.folder / f".{name}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EACCES, errno.EAGAIN):
                    raise DTNNError(f"{self.folder}: another process is screening into this folder") from None
                # File systems without locks: two processes at a time are the user's care there.
            # The file stays: another process may have opened it by now.
            yield


def _difference(before: Any, now: Any) -> str:
    if not isinstance(before, dict) or not isinstance(now, Mapping):
        return ""
    changed = [key for key in now if before.get(key) != now[key] and key != "sha256"]
    return "".join(f"\n  {key}: {before.get(key)} before, {now[key]} now" for key in changed)


def _numbers(file: Path) -> tuple[int, int]:
    found = _PART.fullmatch(file.name)
    assert found is not None
    return int(found[2]), int(found[3])


def rejected_table(rejected: Sequence[Rejected]) -> Any:
    """Make a table of Arrow with the columns id, source and reason."""
    pa = optional_import("pyarrow", extra="cli", purpose="write Parquet files")
    names = ("id", "source", "reason")
    return pa.table({name: pa.array([getattr(one, name) for one in rejected], pa.string()) for name in names})


def write_synced(path: Path, table: Any) -> None:
    """Write a table of Arrow completely or not at all, also when the machine loses power.

    Args:
        path: the file.
        table: a `pyarrow.Table`.

    Raises:
        BadFileError: it cannot be written.
    """
    parquet = optional_import("pyarrow.parquet", extra="cli", purpose="write Parquet files")

    def write(unfinished: Path) -> None:
        parquet.write_table(table, unfinished, compression="zstd")

    _replace_synced(path, write)


def write_text_synced(path: Path, text: str) -> None:
    """Write a text completely or not at all; see `write_synced`."""
    _replace_synced(path, lambda unfinished: unfinished.write_text(text, encoding="utf-8"))


def _replace_synced(path: Path, write: Callable[[Path], Any]) -> None:
    # Several processes may write the same manifest.
    unfinished = path.with_name(f"{path.name}.{os.getpid()}{_UNFINISHED}")
    try:
        try:
            write(unfinished)
            with unfinished.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(unfinished, path)
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            hint = ""
            if error.errno == errno.ENOSPC or "No space left" in str(error):
                hint = ". What is written stays: make room and start again with the same command"
            raise BadFileError(f"{path}: cannot be written: {error.strerror or error}{hint}") from error
    finally:
        unfinished.unlink(missing_ok=True)

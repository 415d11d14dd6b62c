# SPDX-License-Identifier: MIT
"""The folder of a screening: parts that are complete or not there, and a manifest that says what they belong to."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from ..crystals.crystal import Rejected
from ..errors import BadFileError, DTNNError, optional_import
from ..files import read_json_object
from .input_chunks import PieceKey
from .synced_files import UNFINISHED, write_synced, write_text_synced

FORMAT = "dtnn_fast screening 1"
MANIFEST_FILE = "manifest.json"
_PART = re.compile(r"(part|shard|rejected)-(\d{6})-(\d{4})\.parquet")
# Whether a part has all crystals of its piece, whether its chunk ends with it, the number of rejected crystals, and
# the two checksums of its `PieceKey`.
_COMPLETE, _LAST = b"dtnn_fast_complete", b"dtnn_fast_last"
_NUM_REJECTED, _PREVIOUS, _KEY = b"dtnn_fast_rejected", b"dtnn_fast_previous_piece", b"dtnn_fast_piece"


class Parts:
    """The parts of a screening in a folder.

    A part is written to a temporary name, synced and renamed, after the file of its rejected crystals: where it exists
    it is whole. A part of a piece that was interrupted is marked, and written again by the next start.

    Args:
        folder: an existing folder.
        stem: first word of the names of parts: "part" for predictions, "shard" for packed crystals.
    """

    def __init__(self, folder: Path, stem: str = "part") -> None:
        self.folder, self.stem = folder, stem

    def part(self, chunk: int, piece: int) -> Path:
        """Return the path of the predictions of a piece."""
        return self.folder / f"{self.stem}-{chunk:06d}-{piece:04d}.parquet"

    def rejected(self, chunk: int, piece: int) -> Path:
        """Return the path of the rejected crystals of a piece; there is no such file where none was rejected."""
        return self.folder / f"rejected-{chunk:06d}-{piece:04d}.parquet"

    def part_files(self) -> list[Path]:
        """List the parts in the order of the input."""
        return self._files(self.stem)

    def rejected_files(self) -> list[Path]:
        """List the files of rejected crystals in the order of the input."""
        return self._files("rejected")

    def _files(self, kind: str) -> list[Path]:
        names = sorted(
            name for name in os.listdir(self.folder) if (found := _PART.fullmatch(name)) and found[1] == kind
        )
        return [self.folder / name for name in names]

    def write(
        self,
        chunk: int,
        piece: int,
        table: Any,
        rejected: Sequence[Rejected],
        is_complete: bool,
        is_last: bool,
        key: PieceKey = PieceKey(),  # noqa: B008  it cannot be changed
    ) -> None:
        """Write a piece. With the last one of a chunk, parts of later pieces are removed: they are of an earlier start.

        Args:
            chunk: number of its chunk.
            piece: number of the piece in it.
            table: its predictions, a `pyarrow.Table`.
            rejected: its rejected crystals.
            is_complete: False where it was interrupted.
            is_last: whether the chunk ends with it.
            key: `Piece.key`.

        Raises:
            BadFileError: the file cannot be written, for example because the disk is full. What was there before stays.
        """
        file = self.rejected(chunk, piece)
        if rejected:
            write_synced(file, rejected_table(rejected))
        else:
            file.unlink(missing_ok=True)
        about = {
            _COMPLETE: str(is_complete).encode(),
            _LAST: str(is_last).encode(),
            _NUM_REJECTED: str(len(rejected)).encode(),
            _PREVIOUS: key.previous.encode(),
            _KEY: key.own.encode(),
        }
        if is_last and is_complete:
            self._remove_behind(chunk, piece)
        write_synced(self.part(chunk, piece), table.replace_schema_metadata({**(table.schema.metadata or {}), **about}))

    def _remove_behind(self, chunk: int, last: int) -> None:
        for file in [*self.part_files(), *self.rejected_files()]:
            number, piece = _numbers(file)
            if number == chunk and piece > last:
                file.unlink(missing_ok=True)

    def remove_unfinished(self, chunks: Collection[int] | None = None) -> None:
        """Remove what stopped processes left half written.

        Args:
            chunks: numbers of the chunks that no other process writes now; None for everything in the folder.
        """
        for left in self.folder.glob(f"*{UNFINISHED}"):
            found = _PART.match(left.name)
            if chunks is None or (found is not None and int(found[2]) in chunks):
                left.unlink(missing_ok=True)

    def done(self, on_damaged: Callable[[Path, str], None] = lambda path, reason: None) -> dict[int, dict[int, str]]:
        """List the pieces that are complete.

        Args:
            on_damaged: called with a file that cannot be read and the reason; its piece is computed again.

        Returns:
            For each chunk the `PieceKey.own` of each complete piece, by the number of the piece.
        """
        found: dict[int, dict[int, str]] = {}
        for file, about in self._each_complete(on_damaged):
            chunk, piece = _numbers(file)
            found.setdefault(chunk, {})[piece] = about.get(_KEY, b"").decode()
        return found

    def finished_chunks(self) -> set[int]:
        """List the chunks of which all pieces are complete, and each is the one that follows the one before."""
        keys: dict[int, list[bytes]] = {}
        finished: set[int] = set()
        # In the order of chunks and pieces.
        for file, about in self._each_complete(lambda path, reason: None):
            chunk, piece = _numbers(file)
            before = keys.setdefault(chunk, [b""])
            follows = len(before) == piece + 1 and before[-1] == about.get(_PREVIOUS, b"")
            before.append(about.get(_KEY, b""))
            if not follows:
                # No further piece can follow.
                before.clear()
            finished.discard(chunk)
            if follows and about.get(_LAST) == b"True":
                finished.add(chunk)
        return finished

    def _each_complete(self, on_damaged: Callable[[Path, str], None]) -> Iterator[tuple[Path, Mapping[bytes, bytes]]]:
        """Give each part of a complete piece with its metadata; both of its files can be read."""
        pa = optional_import("pyarrow", extra="cli", purpose="read the parts of a screening")
        parquet = optional_import("pyarrow.parquet", extra="cli", purpose="read the parts of a screening")
        with_rejected = set(self.rejected_files())
        for file in self.part_files():
            reading = file
            try:
                about = parquet.read_schema(file).metadata or {}
                expected = int(about.get(_NUM_REJECTED, b"0"))
                rejected = self.rejected(*_numbers(file))
                if expected or rejected in with_rejected:
                    reading = rejected
                    if (rows := num_rows(reading)) != expected:
                        on_damaged(reading, f"expected {expected} rejected crystals, got {rows}")
                        continue
            except (OSError, ValueError, pa.ArrowException) as error:
                on_damaged(reading, str(error))
                continue
            if about.get(_COMPLETE) == b"True":
                yield file, about

    def remove(self) -> None:
        """Remove all part files and the manifest, for a new start."""
        (self.folder / MANIFEST_FILE).unlink(missing_ok=True)
        for file in [*self.part_files(), *self.rejected_files(), *self.folder.glob(f"*{UNFINISHED}")]:
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
                    f"{self.folder}: has {self.stem} files without their {MANIFEST_FILE}: choose another --output, or "
                    "--fresh to remove them"
                )
            write_text_synced(self.folder / MANIFEST_FILE, json.dumps({"format": FORMAT, **manifest}, indent=2) + "\n")
            return
        for key, what in (("model", "another model"), ("source", "other files"), ("settings", "other settings")):
            now = json.loads(json.dumps(manifest.get(key)))
            # A model may have been moved; its weights count.
            if _without_name(before.get(key)) != _without_name(now):
                difference = _difference(before.get(key), now)
                is_changed = key == "source" and not difference
                other = "files that have changed since (in size or time)" if is_changed else what
                raise DTNNError(
                    f"{self.folder}: contains results of {other}: choose another --output, or --fresh to replace them"
                    f"{difference}"
                )

    @contextmanager
    def locked(self, name: str = "screening") -> Iterator[None]:
        """Keep other processes from writing the same parts; a lock ends with its process, however that ends.

        Shards of other names may be written at the same time, but not everything ("screening") and a shard.

        Args:
            name: what is written: a shard, or "screening" for everything.

        Raises:
            DTNNError: another process holds the lock.
        """
        # The files stay: another process may have opened them by now.
        with ExitStack() as files:
            everything = files.enter_context((self.folder / ".screening.lock").open("w"))
            self._lock(everything, fcntl.LOCK_EX if name == "screening" else fcntl.LOCK_SH)
            if name != "screening":
                self._lock(files.enter_context((self.folder / f".{name}.lock").open("w")), fcntl.LOCK_EX)
            yield

    def _lock(self, file: IO[str], kind: int) -> None:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise DTNNError(
                    f"{self.folder}: another process is screening into this folder: wait for it, or choose another "
                    "--output"
                ) from None
            # File systems without locks: two processes at a time are the user's care there.


def _without_name(about: Any) -> Any:
    return {key: value for key, value in about.items() if key != "name"} if isinstance(about, dict) else about


def _difference(before: Any, now: Any) -> str:
    if not isinstance(before, dict) or not isinstance(now, Mapping):
        return ""
    changed = [key for key in now if before.get(key) != now[key] and key != "sha256"]
    listed = "; ".join(f"{key}: {before.get(key)} before, {now[key]} now" for key in changed)
    return f". Differences: {listed}" if listed else ""


def _numbers(file: Path) -> tuple[int, int]:
    found = _PART.fullmatch(file.name)
    assert found is not None
    return int(found[2]), int(found[3])


def num_rows(file: Path) -> int:
    """Read the number of rows of a Parquet file."""
    parquet = optional_import("pyarrow.parquet", extra="cli", purpose="read Parquet files")
    return int(parquet.read_metadata(file).num_rows)


def rejected_table(rejected: Sequence[Rejected]) -> Any:
    """Make a table of Arrow with the columns id, source and reason."""
    pa = optional_import("pyarrow", extra="cli", purpose="write Parquet files")
    names = ("id", "source", "reason")
    return pa.table({name: pa.array([getattr(one, name) for one in rejected], pa.string()) for name in names})

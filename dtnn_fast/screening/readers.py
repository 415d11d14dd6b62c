# SPDX-License-Identifier: MIT
"""Processes that read and prepare crystals ahead of the model; one that is killed loses nothing.

Each reader has a pipe of its own, so that a reader that is killed while it writes blocks nobody else. A reader waits
until its piece is taken, so that memory holds one piece for each reader.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from ..crystals.crystal import Crystal, Rejected
from ..errors import DTNNError
from .input_chunks import Chunk, Piece, PieceKey, ScreeningInput, pieces
from .preparation import Preparation, Prepared
from .reader_announcements import WorkingOn, announced_files, announced_preparation

# Where this many readers die one after the other without a single crystal in between, something else is wrong.
_MOST_DEATHS_IN_A_ROW = 20
# Where this many die before they name what they work on, they cannot work at all.
_MOST_UNEXPLAINED_DEATHS = 3


class PreparedPiece(NamedTuple):
    """A piece of a chunk, ready for a model.

    Args:
        chunk: number of the chunk.
        piece: number of the piece in it.
        crystals: prepared crystals.
        rejected: crystals that cannot be used.
        is_last: whether the chunk ends with it.
        key: see `Piece`.
        size_read: how much of the size of the chunk has been read with this piece, about; see `Chunk`.
    """

    chunk: int
    piece: int
    crystals: list[Crystal]
    rejected: list[Rejected]
    is_last: bool
    key: PieceKey
    size_read: int = 0


def prepared_pieces(
    inputs: ScreeningInput,
    chunks: Sequence[int],
    done: Mapping[int, Mapping[int, str]],
    preparation: Preparation,
    num_readers: int,
    on_message: Callable[[str], None] = lambda message: None,
) -> Iterator[PreparedPiece]:
    """Read and prepare the pieces that are not done yet.

    Args:
        inputs: the input.
        chunks: numbers of the chunks to read.
        done: pieces that are left out; see `Parts.done`. A piece of this number with another key is given.
        preparation: what is done with each crystal.
        num_readers: number of processes; 0 reads in this one. Crystals in memory are always read in this one.
        on_message: called with a line about a reader that died.

    Returns:
        The pieces of a chunk in order; with several readers, those of different chunks mixed. Where a reader was killed
        while it read a file of several pieces, pieces can come again, with other contents, which replace the first.

    Raises:
        DTNNError: readers are killed again and again.
    """
    if num_readers == 0 or inputs.in_memory:
        for number in chunks:
            chunk = inputs.chunks[number]
            for piece in _not_done(chunk.read(inputs.in_memory), done.get(number, {})):
                yield _prepared(number, chunk, piece, preparation.prepare(piece.items))
        return
    readers = _Readers(inputs, chunks, done, preparation, num_readers, on_message)
    try:
        yield from readers.pieces()
    finally:
        readers.close()


def _not_done(items: Iterable[Crystal | Rejected], done: Mapping[int, str]) -> Iterator[Piece]:
    return (piece for piece in pieces(items) if done.get(piece.number) != piece.key.own)


def _prepared(number: int, chunk: Chunk, piece: Piece, prepared: Prepared) -> PreparedPiece:
    size_read = chunk.size if piece.is_last else chunk.size_read()
    crystals, rejected = prepared
    return PreparedPiece(number, piece.number, crystals, rejected, piece.is_last, piece.key, size_read)


@dataclass
class _Task:
    """A chunk that is to be read, and what is known from readers that died on it.

    Args:
        chunk: its number.
        done: keys of the pieces that are not needed, by number.
        skipped_files: files that killed a reader.
        skipped_crystals: pieces and places of crystals that killed a reader.
        at: what its reader announced last.
        deaths: how many readers died.
        unexplained: how many of them had not said what they work on.
    """

    chunk: int
    done: dict[int, str]
    skipped_files: set[str] = field(default_factory=set)
    skipped_crystals: set[tuple[int, int]] = field(default_factory=set)
    at: WorkingOn | None = None
    deaths: int = 0
    unexplained: int = 0


class _Reader:
    """One process, with the connection to it."""

    def __init__(self, preparation: Preparation) -> None:
        ours, theirs = socket.socketpair()
        # Not multiprocessing: its children run the main script again, unless the script is written for that.
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import run_reader; run_reader({theirs.fileno()})"
        )
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL
        )
        theirs.close()
        self.connection = Connection(ours.detach())
        self.task: _Task | None = None
        self.send(preparation)

    def send(self, value: Any) -> None:
        # One that is dead is found by the next `recv`.
        with contextlib.suppress(OSError):
            self.connection.send_bytes(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))

    def start(self, task: _Task, chunk: Chunk) -> None:
        self.task = task
        task.at = None
        # After a death, the reader says what it works on, so that the culprit is known.
        self.send((task.chunk, chunk, task.done, task.skipped_files, task.skipped_crystals, task.deaths > 0))

    def wait(self) -> int:
        """Wait for the end of a reader whose connection is closed, and return its exit code."""
        self.connection.close()
        try:
            return self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def close(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.wait()


class _Readers:
    def __init__(
        self,
        inputs: ScreeningInput,
        chunks: Sequence[int],
        done: Mapping[int, Mapping[int, str]],
        preparation: Preparation,
        num_readers: int,
        on_message: Callable[[str], None],
    ) -> None:
        self._chunks, self._preparation, self._on_message = inputs.chunks, preparation, on_message
        self._waiting = deque(_Task(number, dict(done.get(number, {}))) for number in chunks)
        self._deaths_in_a_row = 0
        self._readers = [_Reader(preparation) for _ in range(min(num_readers, len(self._waiting)))]

    def pieces(self) -> Iterator[PreparedPiece]:
        for reader in self._readers:
            self._give_work(reader)
        while busy := [reader for reader in self._readers if reader.task is not None]:
            ready = wait([reader.connection for reader in busy])
            for reader in busy:
                if reader.connection not in ready:
                    continue
                try:
                    message = pickle.loads(reader.connection.recv_bytes())
                except (EOFError, OSError, pickle.UnpicklingError):
                    self._after_death(reader)
                    continue
                assert reader.task is not None
                if message is None:
                    reader.task = None
                    self._deaths_in_a_row = 0
                    self._give_work(reader)
                elif isinstance(message, WorkingOn):
                    reader.task.at = message
                else:
                    reader.task.done[message.piece] = message.key.own
                    if message.crystals:
                        self._deaths_in_a_row = 0
                    yield message

    def _give_work(self, reader: _Reader) -> None:
        if self._waiting:
            task = self._waiting.popleft()
            reader.start(task, self._chunks[task.chunk])

    def _after_death(self, reader: _Reader) -> None:
        """Start another reader on the chunk; the file or crystal that a second one dies on is rejected.

        Raises:
            DTNNError: this does not help.
        """
        task = reader.task
        assert task is not None
        code = reader.wait()
        cause = f"by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"with exit code {code}"
        where = ""
        if task.at is not None and task.at.file:
            task.skipped_files.add(task.at.file)
            where = f", while it read {task.at.file}"
        elif task.at is not None:
            task.skipped_crystals.add((task.at.piece, task.at.place))
            where = f", while it searched the symmetry of {task.at.label}"
        elif task.deaths:
            task.unexplained += 1
        task.deaths += 1
        self._deaths_in_a_row += 1
        if self._deaths_in_a_row >= _MOST_DEATHS_IN_A_ROW or task.unexplained >= _MOST_UNEXPLAINED_DEATHS:
            raise DTNNError(
                f"reading processes keep ending, the last one {cause}{where}. What has been written is kept: free "
                "memory, or try --readers 0, which shows the error"
            )
        rejection = ", which is rejected" if where else ""
        self._on_message(f"a reading process ended {cause}{where}{rejection}; another one continues")
        self._readers[self._readers.index(reader)] = fresh = _Reader(self._preparation)
        fresh.start(task, self._chunks[task.chunk])

    def close(self) -> None:
        for reader in self._readers:
            reader.close()


def run_reader(file_descriptor: int) -> None:
    """Serve as a reader until the other end of the connection closes.

    Args:
        file_descriptor: of the connection.
    """
    # Ctrl-C reaches all processes of a terminal, SIGTERM all of a job: the one with the model decides what they mean.
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    connection = Connection(file_descriptor)

    def send(message: Any) -> None:
        connection.send_bytes(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))

    try:
        preparation = pickle.loads(connection.recv_bytes())
        while True:
            number, chunk, done, files, crystals, is_announced = pickle.loads(connection.recv_bytes())
            if is_announced:
                for piece in _not_done(announced_files(chunk, files, send), done):
                    send(_prepared(number, chunk, piece, announced_preparation(piece, preparation, crystals, send)))
            else:
                for piece in _not_done(chunk.read(), done):
                    send(_prepared(number, chunk, piece, preparation.prepare(piece.items)))
            send(None)
    except (EOFError, OSError):
        pass

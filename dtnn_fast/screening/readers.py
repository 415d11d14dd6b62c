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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from ..crystals.crystal import Crystal, Rejected
from .input_chunks import Chunk, ScreeningInput, pieces
from .preparation import Preparation

# A chunk is given up after this many readers died on it.
_MOST_DEATHS = 20


class PreparedPiece(NamedTuple):
    """A piece of a chunk, ready for a model.

    Args:
        chunk: number of the chunk.
        piece: number of the piece in it.
        crystals: prepared crystals.
        rejected: crystals that cannot be used.
        is_last: whether the chunk ends with it.
    """

    chunk: int
    piece: int
    crystals: list[Crystal]
    rejected: list[Rejected]
    is_last: bool


def prepared_pieces(
    inputs: ScreeningInput,
    chunks: Sequence[int],
    done: Mapping[int, Collection[int]],
    preparation: Preparation,
    num_readers: int,
    on_message: Callable[[str], None] = lambda message: None,
) -> Iterator[PreparedPiece]:
    """Read and prepare the pieces that are not done yet.

    Args:
        inputs: the input.
        chunks: numbers of the chunks to read.
        done: numbers of the pieces that are left out, by chunk.
        preparation: what is done with each crystal.
        num_readers: number of processes; 0 reads in this one. Crystals in memory are always read in this one.
        on_message: called with a line about a reader that died.

    Returns:
        The pieces of a chunk in order; with several readers, those of different chunks mixed.
    """
    if num_readers == 0 or inputs.in_memory:
        for number in chunks:
            yield from _pieces_of(inputs.chunks[number], number, done.get(number, ()), preparation, inputs.in_memory)
        return
    readers = _Readers(inputs, chunks, done, preparation, num_readers, on_message)
    try:
        yield from readers.pieces()
    finally:
        readers.close()


def _pieces_of(
    chunk: Chunk,
    number: int,
    done: Collection[int],
    preparation: Preparation,
    in_memory: Sequence[Crystal] = (),
    skipped: Collection[str] = (),
    on_file: Callable[[str], None] | None = None,
) -> Iterator[PreparedPiece]:
    items: Iterable[Crystal | Rejected] = chunk.read(in_memory, skipped)
    if on_file is not None:
        items = _announced(chunk, skipped, on_file)
    for piece in pieces(items):
        if piece.number not in done:
            prepared = preparation.prepare(piece.items)
            yield PreparedPiece(number, piece.number, prepared.crystals, prepared.rejected, piece.is_last)


def _announced(chunk: Chunk, skipped: Collection[str], on_file: Callable[[str], None]) -> Iterator[Crystal | Rejected]:
    for name, file_id in zip(chunk.files, chunk.file_ids, strict=True):
        on_file(name)
        yield from chunk.read_file(name, file_id, skipped)


@dataclass
class _Task:
    """A chunk that is to be read, and what is known from readers that died on it."""

    chunk: int
    done: set[int]
    skipped: set[str] = field(default_factory=set)
    last_file: str | None = None
    deaths: int = 0


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
        # After a death, the reader says which file it reads, so that the culprit is known.
        self.send((task.chunk, chunk, task.done, task.skipped, task.deaths > 0))

    def close(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.wait()


class _Readers:
    def __init__(
        self,
        inputs: ScreeningInput,
        chunks: Sequence[int],
        done: Mapping[int, Collection[int]],
        preparation: Preparation,
        num_readers: int,
        on_message: Callable[[str], None],
    ) -> None:
        self._chunks, self._preparation, self._on_message = inputs.chunks, preparation, on_message
        self._waiting = deque(_Task(number, set(done.get(number, ()))) for number in chunks)
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
                    yield from self._after_death(reader)
                    continue
                if message is None:
                    reader.task = None
                    self._give_work(reader)
                elif isinstance(message, str):
                    assert reader.task is not None
                    reader.task.last_file = message
                else:
                    assert reader.task is not None
                    reader.task.done.add(message[1])
                    yield PreparedPiece(*message)

    def _give_work(self, reader: _Reader) -> None:
        if self._waiting:
            task = self._waiting.popleft()
            reader.start(task, self._chunks[task.chunk])

    def _after_death(self, reader: _Reader) -> Iterator[PreparedPiece]:
        """Start another reader on the chunk; a file that two of them died on is skipped, and rejected."""
        task = reader.task
        assert task is not None
        reader.close()
        code = reader.process.returncode
        cause = f"by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"with exit code {code}"
        task.deaths += 1
        where = ""
        if task.last_file is not None:
            task.skipped.add(task.last_file)
            where = f", while it read {task.last_file}, which is rejected"
            task.last_file = None
        self._on_message(f"a reading process ended {cause}{where}; another one goes on")
        self._readers[self._readers.index(reader)] = fresh = _Reader(self._preparation)
        if task.deaths > _MOST_DEATHS:
            reason = f"{task.deaths} processes that read these files were killed, the last one {cause}"
            chunk = self._chunks[task.chunk]
            rejected = [Rejected(id, name, reason) for id, name in zip(chunk.file_ids, chunk.files, strict=True)]
            yield PreparedPiece(task.chunk, max(task.done, default=-1) + 1, [], rejected, True)
            self._give_work(fresh)
        else:
            fresh.start(task, self._chunks[task.chunk])

    def close(self) -> None:
        for reader in self._readers:
            reader.close()


def run_reader(file_descriptor: int) -> None:
    """Serve as a reader until the other end of the connection closes.

    Args:
        file_descriptor: of the connection.
    """
    # Ctrl-C reaches all processes of a terminal; the one with the model decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(file_descriptor)

    def send(message: Any) -> None:
        connection.send_bytes(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))

    try:
        preparation = pickle.loads(connection.recv_bytes())
        while True:
            number, chunk, done, skipped, names_files = pickle.loads(connection.recv_bytes())
            on_file = send if names_files else None
            for piece in _pieces_of(chunk, number, done, preparation, (), skipped, on_file):
                send(tuple(piece))
            send(None)
    except (EOFError, OSError):
        pass

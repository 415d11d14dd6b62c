# SPDX-License-Identifier: MIT
"""Processes that read files of strangers for the service: one that hangs or crashes is ended and replaced."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
from typing import Any

from ..crystals.crystal import Crystal
from ..errors import DTNNError
from .crystal_messages import LENGTH, Refusal, RefusalCode, unpack_items
from .reading_process import ReaderSettings

# Importing the readers takes about half a second; much more on a busy machine.
_START_SECONDS = 60.0
# A reader that sends more is broken: texts are limited, and crystals are about as large as their texts.
_MOST_BYTES = 1 << 28
# Readers that may die of a file until it is refused.
_MOST_DEATHS = 3
# Waiting before another try, where a reader cannot be started.
_PAUSE_SECONDS = 1.0
_LOGGER = logging.getLogger("dtnn_fast.serving")


class ReadingPool:
    """Reading processes, each of which does one job at a time.

    Args:
        num_readers: number of processes.
        settings: of all readers.
        seconds: time for a job. s
    """

    def __init__(self, num_readers: int, settings: ReaderSettings, seconds: float) -> None:
        self.num_readers, self._settings, self._seconds = num_readers, settings, seconds
        self._idle: asyncio.Queue[_Reader] = asyncio.Queue()
        self._readers: set[_Reader] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_closed = False

    async def start(self) -> None:
        """Start all readers.

        Raises:
            DTNNError: a reader does not start.
        """
        for reader in await asyncio.gather(*(self._start_reader() for _ in range(self.num_readers))):
            self._idle.put_nowait(reader)

    async def read(self, name: str, data: bytes, file_format: str | None) -> list[Crystal | Refusal]:
        """Read the crystals of a text, as soon as a reader is free.

        A file that takes too long, or that three readers die of, is refused. Where the caller is cancelled, a reader at
        work ends its job first.

        Args:
            name: name of the text, as a file.
            data: the text.
            file_format: see `iter_crystals_of_bytes`.
        """
        reader = await self._next_reader()
        # Not cancelled with the caller: the reader belongs to the pool again when the job is done.
        return await asyncio.shield(self._spawn(self._read(reader, name, data, file_format)))

    @property
    def is_running(self) -> bool:
        """Whether there is a reader."""
        return bool(self._readers) and not self._is_closed

    async def close(self) -> None:
        """End all readers, whatever they do."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for reader in list(self._readers):
            self._end(reader)

    def _spawn(self, job: Any) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(job)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _read(
        self, reader: _Reader, name: str, data: bytes, file_format: str | None, deaths: int = 0
    ) -> list[Crystal | Refusal]:
        try:
            async with asyncio.timeout(self._seconds):
                items = await reader.read(name, data, file_format)
        except TimeoutError:
            self._replace(reader)
            reason = f"reading it takes longer than {self._seconds:g} seconds"
            return [Refusal(name, RefusalCode.TIMEOUT, reason)]
        except (EOFError, OSError, ValueError) as error:
            self._replace(reader)
            _LOGGER.warning("a reading process ended at work (%s); another one is started", type(error).__name__)
            if deaths + 1 == _MOST_DEATHS:
                return [Refusal(name, RefusalCode.CRASHED, "the process that reads it ends in the middle of it")]
            # Something else may have ended it, such as a lack of memory, which ends several at a time.
            return await self._read(await self._next_reader(), name, data, file_format, deaths + 1)
        except asyncio.CancelledError:
            self._end(reader)
            raise
        self._idle.put_nowait(reader)
        return items

    async def _next_reader(self) -> _Reader:
        """Wait for a reader that is free; those that ended without a job are replaced."""
        while True:
            reader = await self._idle.get()
            if reader.process.poll() is None:
                return reader
            self._replace(reader)

    def _replace(self, reader: _Reader) -> None:
        self._end(reader)
        self._spawn(self._add_reader())

    def _end(self, reader: _Reader) -> None:
        self._readers.discard(reader)
        reader.end()

    async def _add_reader(self) -> None:
        while not self._is_closed:
            try:
                reader = await self._start_reader()
            except (DTNNError, OSError) as error:
                _LOGGER.warning("%s", error)
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            self._idle.put_nowait(reader)
            return

    async def _start_reader(self) -> _Reader:
        reader = _Reader()
        self._readers.add(reader)
        try:
            async with asyncio.timeout(_START_SECONDS):
                await reader.start(self._settings)
        except (EOFError, OSError) as error:  # TimeoutError is an OSError
            self._end(reader)
            raise DTNNError(f"serve: a reading process does not start ({type(error).__name__})") from error
        except asyncio.CancelledError:
            self._end(reader)
            raise
        return reader


class _Reader:
    """One process, with the connection to it."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair()
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; from dtnn_fast.serving.reading_process import run_reader; "
            f"run_reader({theirs.fileno()})"
        )
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL
        )
        theirs.close()
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def start(self, settings: ReaderSettings) -> None:
        self._reader, self._writer = await asyncio.open_connection(sock=self._ours)
        self._send(json.dumps(settings).encode())
        await self._receive()

    async def read(self, name: str, data: bytes, file_format: str | None) -> list[Crystal | Refusal]:
        self._send(json.dumps({"name": name, "format": file_format}).encode(), data)
        return unpack_items(await self._receive())

    def end(self) -> None:
        if self._writer is None:
            self._ours.close()
        else:
            self._writer.transport.abort()
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()

    def _send(self, *frames: bytes) -> None:
        assert self._writer is not None
        self._writer.write(b"".join(part for frame in frames for part in (LENGTH.pack(len(frame)), frame)))

    async def _receive(self) -> bytes:
        assert self._reader is not None
        (length,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
        if length > _MOST_BYTES:
            raise ValueError(f"a message of {length:,} bytes")
        return await self._reader.readexactly(length)

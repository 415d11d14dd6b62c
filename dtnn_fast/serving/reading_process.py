# SPDX-License-Identifier: MIT
"""A process that reads texts of strangers, checks their crystals and finds their symmetry; it needs no torch.

It has one end of a pair of sockets. Frames are a length (4 bytes, big-endian) and as many bytes. It gets its settings,
answers with an empty frame when it is ready, and then answers each job by a message of `pack_items`. From then on it
may take limited memory, and open no file.
"""

from __future__ import annotations

import codecs
import importlib
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

from ..crystals.crystal import Crystal, Rejected
from ..errors import BadFileError
from ..formats.reading import iter_crystals_of_bytes
from ..screening.preparation import Preparation
from ..symmetry import UNKNOWN
from .crystal_messages import LENGTH, Refusal, RefusalCode, pack_items

# Read once at the start: all modules must be there before files are forbidden, and the first request shall not wait.
_FIRST_TEXTS = {
    "first.cif": "data_first _cell_length_a 5.6 _cell_length_b 5.6 _cell_length_c 5.6 _cell_angle_alpha 90 "
    "_cell_angle_beta 90 _cell_angle_gamma 90 _space_group_IT_number 225 loop_ _atom_site_label "
    "_atom_site_fract_x _atom_site_fract_y _atom_site_fract_z Na 0 0 0 Cl 0.5 0.5 0.5",
    "first.vasp": "NaCl\n1.0\n0 2.8 2.8\n2.8 0 2.8\n2.8 2.8 0\nNa Cl\n1 1\nDirect\n0 0 0\n0.5 0.5 0.5\n",
    "first.xyz": '2\nLattice="0 2.8 2.8 2.8 0 2.8 2.8 2.8 0"\nNa 0 0 0\nCl 2.8 2.8 2.8\n',
    "first.json": '{"lattice_vectors": [[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]], '
    '"species_at_sites": ["Na", "Cl"], "cartesian_site_positions": [[0, 0, 0], [2.8, 2.8, 2.8]]}',
    "first.jsonl": '{"id": "first"}',
    "first.csv": 'id,structure\n1,"data_first"\n',
    # What is refused takes other paths: overlapping atoms, an unknown element, a file that breaks off.
    "close.vasp": "NaCl\n1.0\n0 2.8 2.8\n2.8 0 2.8\n2.8 2.8 0\nNa Cl\n1 1\nDirect\n0 0 0\n0.01 0 0\n",
    "unknown.vasp": "X\n1.0\n3 0 0\n0 3 0\n0 0 3\nOg\n1\nDirect\n0 0 0\n",
    "broken.cif": "data_x\n_cell_length_a 5",
    "broken.json": '{"lattice_vectors": [[0',
    "first.abc": "hello",
}
# Characters of ids and reasons in answers.
_MOST_OF_ID, _MOST_OF_REASON = 200, 1000
# What Python imports when some functions are called, such as `Counter.most_common` and `numpy.unique`.
_IMPORTED_LATER = ("heapq", "numpy.ma")
_ENCODINGS = ("ascii", "latin-1", "utf-8-sig", "utf-16", "utf-32")


class ReaderSettings(NamedTuple):
    """What a reader does with all jobs.

    Args:
        elements: atomic numbers that the model knows; empty for all.
        search_operations: smallest and largest number of atoms of crystals whose operations are searched for; None for
            no search.
        max_atoms: see `Limits`.
        max_crystals: see `Limits`.
        reader_bytes: see `Limits`.
    """

    elements: tuple[int, ...]
    search_operations: tuple[int, int] | None
    max_atoms: int
    max_crystals: int
    reader_bytes: int


def run_reader(file_descriptor: int) -> None:
    """Serve as a reader until the other end of the connection closes.

    Args:
        file_descriptor: of the socket.
    """
    # Ctrl-C reaches all processes of a terminal, SIGTERM all of a job: the service decides what they mean.
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    with socket.socket(fileno=file_descriptor) as connection, connection.makefile("rb") as source:
        settings = _settings_of(json.loads(_receive(source)))
        for module in _IMPORTED_LATER:
            importlib.import_module(module)
        for encoding in _ENCODINGS:
            codecs.getincrementaldecoder(encoding)().decode("".encode(encoding))
        for name, text in _FIRST_TEXTS.items():
            read_job(settings, name, None, text.encode())
        # Native libraries print traces of their errors, which strangers could fill a log with.
        with open(os.devnull, "w", encoding="ascii") as nothing:
            os.dup2(nothing.fileno(), sys.stderr.fileno())
        _limit_resources(settings.reader_bytes)
        _send(connection, b"")
        try:
            while True:
                head = json.loads(_receive(source))
                items = read_job(settings, head["name"], head["format"], _receive(source))
                _send(connection, pack_items(items))
        except (EOFError, OSError):
            pass


def read_job(settings: ReaderSettings, name: str, file_format: str | None, data: bytes) -> list[Crystal | Refusal]:
    """Read the crystals of one text; what cannot be used has a reason in its place.

    Args:
        settings: of the reader.
        name: name of the text, as a file.
        file_format: see `iter_crystals_of_bytes`.
        data: the text.
    """
    read: list[Crystal | Refusal] = []
    try:
        items = iter_crystals_of_bytes(name, data, file_format)
        for item in islice(items, settings.max_crystals):
            read += _prepared(item, settings)
        if next(items, None) is not None:
            reason = f"more than {settings.max_crystals:,} crystals in one file: the others are left out"
            read.append(Refusal(name, RefusalCode.TOO_MANY, reason))
    except BadFileError as error:
        read.append(_refusal(name, RefusalCode.UNREADABLE, _without_name(str(error), name)))
    except Exception as error:
        # A bug or the limit of memory. What was read before stays. Texts of errors may name folders of this machine.
        what = "it needs too much memory" if isinstance(error, MemoryError) else type(error).__name__
        read.append(_refusal(name, RefusalCode.UNREADABLE, f"cannot be read: {what}"))
    return read


def _prepared(item: Crystal | Rejected, settings: ReaderSettings) -> Iterator[Crystal | Refusal]:
    item = replace(item, id=_shortened(item.id, _MOST_OF_ID))
    if isinstance(item, Crystal) and item.num_atoms > settings.max_atoms:
        reason = f"{item.num_atoms:,} atoms: at most {settings.max_atoms:,} are taken here"
        yield _refusal(item.id, RefusalCode.TOO_LARGE, reason)
        return
    prepared = Preparation(settings.elements, settings.search_operations).prepare([item])
    for crystal in prepared.crystals:
        # Where nothing is found, nobody shall search again.
        yield replace(crystal, info={"crystal_system": UNKNOWN, **crystal.info})
    yield from (_refusal(rejected.id, RefusalCode.UNUSABLE, rejected.reason) for rejected in prepared.rejected)


def _refusal(id: str, code: RefusalCode, reason: str) -> Refusal:
    return Refusal(id, code, _shortened(reason, _MOST_OF_REASON))


def _shortened(text: str, most: int) -> str:
    """Shorten what may repeat a whole file."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _without_name(message: str, name: str) -> str:
    """Drop the name of the file, with which messages begin; the answer has it."""
    start, separator, rest = message.partition(": ")
    return rest if separator and start.startswith(Path(name).name[:200]) else message


def _settings_of(values: list[Any]) -> ReaderSettings:
    elements, search, *others = values
    return ReaderSettings(tuple(elements), None if search is None else (search[0], search[1]), *others)


def _limit_resources(num_bytes: int) -> None:
    """Limit memory to what is taken now and so many bytes more, and forbid that files are opened or written."""
    memory = Path("/proc/self/statm")
    # Other systems than Linux have no such file; there, only the time of a job is limited.
    if memory.exists():
        pages = int(memory.read_text(encoding="ascii").split()[0])
        limit = pages * resource.getpagesize() + num_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for forbidden in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE, resource.RLIMIT_NOFILE):
        resource.setrlimit(forbidden, (0, 0))


def _receive(source: IO[bytes]) -> bytes:
    (length,) = LENGTH.unpack(_exactly(source, LENGTH.size))
    return _exactly(source, length)


def _exactly(source: IO[bytes], size: int) -> bytes:
    data = source.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _send(connection: socket.socket, message: bytes) -> None:
    connection.sendall(LENGTH.pack(len(message)) + message)

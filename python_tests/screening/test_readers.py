# SPDX-License-Identifier: MIT
"""Reading processes give what one process gives; those that are killed lose nothing but what killed them."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.errors import DTNNError
from dtnn_fast.screening import input_chunks, readers
from dtnn_fast.screening.input_chunks import plan_crystals, plan_files
from dtnn_fast.screening.preparation import Preparation
from dtnn_fast.screening.readers import prepared_pieces

# Loaded by each reader at its start: small pieces, files that kill their reader at once or after some crystals, and
# crystals that kill it when their symmetry is searched.
_SITE = """
import os, signal
from dtnn_fast.screening import input_chunks, preparation
input_chunks.PIECE_CRYSTALS = 5
read, describe = input_chunks.Chunk.read_file, preparation.described

def read_file(chunk, name, file_id, skipped=()):
    items = read(chunk, name, file_id, skipped)
    if name in skipped:
        return items
    if "late" in name:
        return dying(items)
    if "bomb" in name:
        os.kill(os.getpid(), signal.SIGKILL)
    return items

def dying(items):
    for number, item in enumerate(items):
        if number == 12:
            os.kill(os.getpid(), signal.SIGKILL)
        yield item

def described(crystal, *options):
    if "evil" in crystal.id:
        os.kill(os.getpid(), signal.SIGSEGV)
    return describe(crystal, *options)

input_chunks.Chunk.read_file = read_file
preparation.described = described
"""


@pytest.fixture(autouse=True)
def small_limits(monkeypatch, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    (folder / "sitecustomize.py").write_text(_SITE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *sys.path]))
    monkeypatch.setattr(input_chunks, "PIECE_CRYSTALS", 5)
    monkeypatch.setattr(input_chunks, "FILES_TOGETHER", 4)


def write(path, number, name="c"):
    rows = [
        {
            "id": f"{path.stem}-{name}-{row}",
            "lattice_angstrom": (4.2 * np.eye(3)).tolist(),
            "atomic_numbers": [12, 8],
            "frac_coords": [[0, 0, 0], [0.5, 0.5, 0.5]],
        }
        for row in range(number)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def read(inputs, num_readers, done=None, messages=None, preparation=None):
    """Return the crystals and the reasons of rejection of each piece, the last one of each number."""
    stream = prepared_pieces(
        inputs,
        range(len(inputs.chunks)),
        done or {},
        preparation or Preparation(),
        num_readers,
        (lambda message: None) if messages is None else messages.append,
    )
    found = {}
    for piece in stream:
        found[piece.chunk, piece.piece] = piece
        if piece.is_last:
            for key in [key for key in found if key[0] == piece.chunk and key[1] > piece.piece]:
                del found[key]
    return found


def ids_of(found):
    return [crystal.id for _, piece in sorted(found.items()) for crystal in piece.crystals]


def rejected_of(found):
    return {reject.id: reject.reason for piece in found.values() for reject in piece.rejected}


def test_several_processes_give_the_same_pieces_as_none(tmp_path):
    for number in range(10):
        write(tmp_path / f"{number}.jsonl", 1 + 3 * number % 7)
    (tmp_path / "3.jsonl").write_text("{")
    inputs = plan_files([tmp_path])
    assert len(inputs.chunks) == 3
    alone, together = read(inputs, 0), read(inputs, 3)
    assert alone.keys() == together.keys()
    for key, piece in alone.items():
        other = together[key]
        assert (other.key, other.is_last, other.rejected) == (piece.key, piece.is_last, piece.rejected)
        for mine, theirs in zip(piece.crystals, other.crystals, strict=True):
            assert (mine.id, mine.info) == (theirs.id, theirs.info)
            np.testing.assert_array_equal(mine.positions, theirs.positions)
    # What is done is left out, but only where it is the same piece.
    done = {0: {0: alone[0, 0].key.own, 1: "another"}, 1: {0: alone[1, 0].key.own}}
    for num_readers in (0, 2):
        assert read(inputs, num_readers, done).keys() == alone.keys() - {(0, 0), (1, 0)}


def test_a_chunk_without_crystals_has_one_piece(tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    (piece,) = read(plan_files([tmp_path]), 1).values()
    assert (piece.piece, piece.crystals, piece.is_last) == (0, [], True)


def test_crystals_in_memory_start_no_process(monkeypatch):
    monkeypatch.setattr(readers, "_Reader", lambda *arguments: pytest.fail("a process was started"))
    crystals = [Crystal.make(f"c{number}", [12, 8], [[0, 0, 0], [2.1] * 3], 4.2 * np.eye(3)) for number in range(12)]
    assert ids_of(read(plan_crystals(crystals), 4)) == [crystal.id for crystal in crystals]


def test_a_reader_killed_in_the_middle_loses_nothing(tmp_path):
    for number in range(4):
        write(tmp_path / f"{number}.jsonl", 12)
    inputs, messages = plan_files([tmp_path]), []
    expected = ids_of(read(inputs, 0))
    stream = prepared_pieces(inputs, [0], {}, Preparation(), 1, messages.append)
    pieces = [next(stream), next(stream)]
    (reader,) = stream.gi_frame.f_locals["readers"]._readers
    os.kill(reader.process.pid, signal.SIGKILL)
    pieces += stream
    # Pieces that were in the pipe may come before the end of the first reader is seen.
    assert [piece.piece for piece in pieces] == list(range(10))
    assert [crystal.id for piece in pieces for crystal in piece.crystals] == expected
    assert len(messages) == 1
    assert "a reading process ended by signal 9 (Killed); another one continues" in messages[0]


@pytest.mark.parametrize("num_readers", [1, 3])
def test_files_that_kill_their_reader_are_rejected_and_no_others(tmp_path, num_readers):
    for number in range(9):
        write(tmp_path / f"{number}{'bomb' if number in (0, 5, 7) else ''}.jsonl", 3)
    messages = []
    found = read(plan_files([tmp_path]), num_readers, messages=messages)
    good = [f"{number}-c-{row}" for number in (1, 2, 3, 4, 6, 8) for row in range(3)]
    assert ids_of(found) == good
    assert rejected_of(found) == dict.fromkeys(
        ("0bomb.jsonl", "5bomb.jsonl", "7bomb.jsonl"),
        "the process that read it was killed: it may need more memory than there is",
    )
    assert any("while it read" in message and "5bomb.jsonl, which is rejected" in message for message in messages)


def test_a_file_that_kills_its_reader_after_some_pieces(tmp_path):
    """Its crystals are rejected together, and the pieces that come again replace the first."""
    write(tmp_path / "0.jsonl", 3)
    write(tmp_path / "1late.jsonl", 20)
    write(tmp_path / "2.jsonl", 4)
    found = read(plan_files([tmp_path]), 1)
    assert ids_of(found) == ["0-c-0", "0-c-1", "0-c-2", "2-c-0", "2-c-1", "2-c-2", "2-c-3"]
    assert list(rejected_of(found)) == ["1late.jsonl"]
    assert sorted(found) == [(0, 0), (0, 1)]


def test_a_crystal_that_kills_its_reader_is_rejected_and_no_others(tmp_path):
    for number in range(4):
        write(tmp_path / f"{number}.jsonl", 4, "evil" if number == 2 else "c")
    messages = []
    found = read(plan_files([tmp_path]), 1, messages=messages)
    assert ids_of(found) == [f"{number}-c-{row}" for number in (0, 1, 3) for row in range(4)]
    assert rejected_of(found) == {
        f"2-evil-{row}": "the process that searched its symmetry was killed: it may need more memory than there is"
        for row in range(4)
    }
    assert any("by signal 11" in message and "searched the symmetry of 2-evil-0" in message for message in messages)


def test_readers_that_cannot_start_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "sitecustomize.py").write_text("import os; os._exit(7)")
    inputs = plan_files([write(tmp_path / "a.jsonl", 3)])
    with pytest.raises(DTNNError, match="keep ending, the last one with exit code 7"):
        read(inputs, 2)


def test_files_that_all_kill_their_reader_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "_MOST_DEATHS_IN_A_ROW", 4)
    for number in range(8):
        write(tmp_path / f"{number}bomb.jsonl", 3)
    with pytest.raises(DTNNError, match="keep ending, the last one by signal 9"):
        read(plan_files([tmp_path]), 1)


def test_readers_end_with_the_process_that_started_them(tmp_path):
    for number in range(30):
        write(tmp_path / f"{number}.jsonl", 12)
    code = f"""
from pathlib import Path
from dtnn_fast.screening.input_chunks import plan_files
from dtnn_fast.screening.preparation import Preparation
from dtnn_fast.screening.readers import prepared_pieces
import os, signal, time
inputs = plan_files([Path({str(tmp_path)!r})])
stream = prepared_pieces(inputs, range(len(inputs.chunks)), {{}}, Preparation(), 3)
next(stream)
print(*(reader.process.pid for reader in stream.gi_frame.f_locals["readers"]._readers), flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, text=True) as process:
        pids = list(map(int, process.stdout.readline().split()))
        assert pids
        process.kill()
    for _ in range(1000):
        if not any(map(_is_running, pids)):
            break
        time.sleep(0.02)
    assert not any(map(_is_running, pids))


def _is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            # A process that nobody waits for stays as a zombie.
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_piece_is_prepared_alike_alone_and_together(tmp_path):
    from dtnn_fast.datasets.bundled import load_labelled
    from dtnn_fast.screening.input_chunks import Piece, PieceKey
    from dtnn_fast.screening.reader_announcements import announced_preparation

    items = [replace(crystal, info={}) for crystal in load_labelled()[:20]]
    items[3] = replace(items[3], positions=np.zeros_like(items[3].positions))
    preparation = Preparation((), (1, 20))
    expected = preparation.prepare(items)
    announced = []
    found = announced_preparation(Piece(0, items, True, PieceKey()), preparation, (), announced.append)
    assert found.rejected == expected.rejected
    assert [at.label for at in announced] == [crystal.label for crystal in items]
    for mine, other in zip(found.crystals, expected.crystals, strict=True):
        assert mine.info == other.info
        np.testing.assert_array_equal(mine.operations.rotations, other.operations.rotations)


def test_signals_to_all_processes_of_a_job_leave_the_readers(tmp_path):
    """The process with the model decides what Ctrl-C and SIGTERM mean."""
    for number in range(4):
        write(tmp_path / f"{number}.jsonl", 12)
    inputs, messages = plan_files([tmp_path]), []
    stream = prepared_pieces(inputs, [0], {}, Preparation(), 1, messages.append)
    found = [next(stream)]
    (reader,) = stream.gi_frame.f_locals["readers"]._readers
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(reader.process.pid, number)
    found += stream
    assert [piece.piece for piece in found] == list(range(10))
    assert messages == []

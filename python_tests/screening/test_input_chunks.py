# SPDX-License-Identifier: MIT
"""Chunks and pieces of the input depend on the input alone."""

import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtnn_fast.crystals.crystal import Crystal, Rejected
from dtnn_fast.screening import input_chunks
from dtnn_fast.screening.input_chunks import PieceKey, pieces, plan_bundled, plan_crystals, plan_files


def crystal(name, atoms=1):
    return Crystal.make(name, [6] * atoms, np.zeros((atoms, 3)), 4 * np.eye(3))


items = st.lists(
    st.one_of(
        st.builds(crystal, st.sampled_from("abc"), st.integers(1, 30)),
        st.builds(lambda name: Rejected(name, "x.cif", "bad"), st.sampled_from("abc")),
    ),
    max_size=40,
)


@settings(max_examples=100, deadline=None)
@given(items, st.integers(1, 9), st.integers(1, 60))
def test_pieces_hold_all_items_in_order_within_the_limits(stream, most_crystals, most_atoms):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(input_chunks, "PIECE_CRYSTALS", most_crystals)
        patch.setattr(input_chunks, "PIECE_ATOMS", most_atoms)
        found = list(pieces(iter(stream)))
        again = list(pieces(stream))
    assert [item for piece in found for item in piece.items] == stream
    assert [piece.number for piece in found] == list(range(len(found)))
    assert [piece.is_last for piece in found] == [False] * (len(found) - 1) + [True]
    assert [piece.key for piece in found] == [piece.key for piece in again]
    assert [piece.key.previous for piece in found] == ["", *(piece.key.own for piece in found[:-1])]
    sizes = [[item.num_atoms if isinstance(item, Crystal) else 0 for item in piece.items] for piece in found]
    for of_piece in sizes[:-1]:
        # The piece ends with the crystal that reaches a limit, and not before.
        assert len(of_piece) == most_crystals or sum(of_piece) >= most_atoms
    for of_piece in sizes:
        assert len(of_piece) <= most_crystals
        assert sum(of_piece[:-1]) < most_atoms


@settings(max_examples=100, deadline=None)
@given(items, items)
def test_keys_tell_pieces_apart(first, second):
    def facts(stream):
        return [(item.id, item.num_atoms if isinstance(item, Crystal) else None) for item in stream]

    same = facts(first) == facts(second)
    assert (PieceKey().following(first) == PieceKey().following(second)) == same
    assert PieceKey("", "before").following(first).own != PieceKey().following(first).own


def test_the_bundled_crystals_are_read_one_piece_a_chunk(monkeypatch):
    monkeypatch.setattr(input_chunks, "PIECE_CRYSTALS", 1000)
    everything, some = plan_bundled(()), plan_bundled({1, 8, 12})
    assert everything.num_left_out == 0 < some.num_left_out
    assert len(everything.in_memory) == len(some.in_memory) + some.num_left_out
    assert everything.unit == "crystals"
    assert sum(chunk.size for chunk in everything.chunks) == len(everything.in_memory)
    for chunk in everything.chunks:
        assert len(list(pieces(chunk.read(everything.in_memory)))) == 1
    assert f"screening {len(some.in_memory):,} of the" in some.notice


def test_the_checksum_of_crystals_in_memory():
    one, other = plan_crystals([crystal("a")]), plan_crystals([crystal("a", 2)])
    assert one.sha256 == plan_crystals([crystal("a")]).sha256
    assert len({one.sha256, other.sha256, plan_crystals([crystal("b")]).sha256}) == 3


def write(path, names=("a",), scale=4.2):
    rows = [
        {
            "id": name,
            "lattice_angstrom": (scale * np.eye(3)).tolist(),
            "atomic_numbers": [6],
            "frac_coords": [[0, 0, 0]],
        }
        for name in names
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def ids(inputs):
    return [item.id for chunk in inputs.chunks for item in chunk.read()]


def test_small_files_are_read_together(tmp_path, monkeypatch):
    for number in range(7):
        write(tmp_path / f"{number}.jsonl", (f"c{number}",))
    size = (tmp_path / "0.jsonl").stat().st_size
    monkeypatch.setattr(input_chunks, "FILES_TOGETHER", 3)
    inputs = plan_files([tmp_path])
    assert [len(chunk.files) for chunk in inputs.chunks] == [3, 3, 1]
    assert ids(inputs) == [f"c{number}" for number in range(7)]
    assert inputs.unit == "bytes"
    monkeypatch.setattr(input_chunks, "BYTES_TOGETHER", 2 * size)
    assert [len(chunk.files) for chunk in plan_files([tmp_path]).chunks] == [2, 2, 2, 1]
    monkeypatch.setattr(input_chunks, "BYTES_TOGETHER", 1)
    assert [len(chunk.files) for chunk in plan_files([tmp_path]).chunks] == [1] * 7
    # A file that is given twice is read once.
    assert len(plan_files([tmp_path, tmp_path / "0.jsonl"]).chunks) == 7


def test_the_checksum_changes_with_the_files(tmp_path):
    file = write(tmp_path / "a.jsonl")
    write(tmp_path / "b.jsonl")
    before = plan_files([tmp_path]).sha256
    assert plan_files([tmp_path]).sha256 == before
    found = [before]
    os.utime(file, ns=(0, 10**9))
    found.append(plan_files([tmp_path]).sha256)
    write(file, ("a", "b"))
    found.append(plan_files([tmp_path]).sha256)
    write(tmp_path / "c.jsonl")
    found.append(plan_files([tmp_path]).sha256)
    assert len(set(found)) == 4


def test_bad_paths_are_rejected_and_the_others_planned(tmp_path):
    write(tmp_path / "a.jsonl")
    (tmp_path / "b.cif").write_text("<html>")
    (tmp_path / "notes.xyzzy").write_text("")
    inputs = plan_files([tmp_path / "no.cif", tmp_path])
    assert [(reject.id, "no such file" in reject.reason) for reject in inputs.rejected] == [("no.cif", True)]
    items = [item for chunk in inputs.chunks for item in chunk.read()]
    assert [type(item) for item in items] == [Crystal, Rejected]
    assert inputs.notice == f"skipped 1 file of unknown format, such as {tmp_path / 'notes.xyzzy'}"


def test_default_ids_are_unique_over_the_whole_input(tmp_path, monkeypatch):
    monkeypatch.setattr(input_chunks, "FILES_TOGETHER", 1)
    text = "c\n1.0\n3 0 0\n0 3 0\n0 0 3\nSi\n1\ndirect\n0 0 0\n"
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "POSCAR").write_text(text)
    found = ids(plan_files([tmp_path]))
    assert len(set(found)) == 2
    assert all(name in one for name, one in zip("xy", found, strict=True))


def test_results_of_the_screening_are_no_input(tmp_path):
    output = tmp_path / "screening"
    output.mkdir()
    mine = write(tmp_path / "summary.json")
    write(output / "more.jsonl")
    for name in ("manifest.json", "summary.json"):
        (output / name).write_text("{}")
    (chunk,) = plan_files([tmp_path], output).chunks
    assert sorted(chunk.files) == sorted(map(str, (mine, output / "more.jsonl")))
    assert len(plan_files([tmp_path]).chunks[0].files) == 4

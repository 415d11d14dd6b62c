# SPDX-License-Identifier: MIT
"""The folder of a screening: what is complete, what is damaged, what belongs together."""

import errno
import os

import pyarrow as pa
import pytest
from pyarrow import parquet

from dtnn_fast.crystals.crystal import Rejected
from dtnn_fast.errors import BadFileError, DTNNError
from dtnn_fast.screening import synced_files
from dtnn_fast.screening.input_chunks import PieceKey
from dtnn_fast.screening.parts import Parts
from dtnn_fast.screening.synced_files import write_synced, write_text_synced

TABLE = pa.table({"id": ["a", "b"]}, metadata={"model": "m"})
BAD = [Rejected("c", "c.cif", "too small"), Rejected("d", "d.cif", "empty")]
MANIFEST = {
    "model": {"name": "m", "targets": ["total"], "sha256": "1"},
    "source": {"paths": ["x"], "num_chunks": 2, "sha256": "2"},
    "settings": {"born_charges": False},
    "command": "dtnn-fast screen x",
}


@pytest.fixture
def parts(tmp_path):
    return Parts(tmp_path)


def write(parts, chunk, *keys, last=True, rejected=(), complete=True):
    """Write the pieces of a chunk, whose keys follow each other."""
    for piece, (previous, own) in enumerate(zip(("", *keys), keys, strict=False)):
        is_last = last and piece == len(keys) - 1
        parts.write(chunk, piece, TABLE, rejected, complete, is_last, PieceKey(previous, own))


def test_what_is_written_is_read(parts):
    write(parts, 0, "k0", "k1", rejected=BAD)
    write(parts, 1, "k2", last=False)
    assert parts.done() == {0: {0: "k0", 1: "k1"}, 1: {0: "k2"}}
    assert parts.finished_chunks() == {0}
    assert [file.name for file in parts.part_files()] == [
        "part-000000-0000.parquet",
        "part-000000-0001.parquet",
        "part-000001-0000.parquet",
    ]
    assert [file.name for file in parts.rejected_files()] == [f"rejected-000000-000{piece}.parquet" for piece in (0, 1)]
    table = parquet.read_table(parts.part(0, 0))
    assert table.to_pylist() == TABLE.to_pylist()
    assert table.schema.metadata[b"model"] == b"m"
    assert parquet.read_table(parts.rejected(0, 1)).to_pylist() == [
        {"id": reject.id, "source": reject.source, "reason": reject.reason} for reject in BAD
    ]


def test_an_interrupted_piece_is_not_done(parts):
    write(parts, 0, "k0", complete=False, rejected=BAD)
    assert parts.done() == {}
    assert parts.finished_chunks() == set()
    write(parts, 0, "k0")
    assert parts.finished_chunks() == {0}
    assert parts.rejected_files() == []


@pytest.mark.parametrize("missing", [0, 1])
def test_a_chunk_with_a_missing_piece_is_not_finished(parts, missing):
    write(parts, 3, "k0", "k1", "k2")
    parts.part(3, missing).unlink()
    assert parts.finished_chunks() == set()


def test_pieces_of_different_readings_are_no_chunk(parts):
    """The second piece follows another first one: crystals would be lost or occur twice."""
    write(parts, 0, "k0", "k1")
    parts.write(0, 0, TABLE, [], True, False, PieceKey("", "other"))
    assert parts.done() == {0: {0: "other", 1: "k1"}}
    assert parts.finished_chunks() == set()
    parts.write(0, 1, TABLE, [], True, True, PieceKey("other", "k3"))
    assert parts.finished_chunks() == {0}


def test_the_last_piece_removes_those_behind_it(parts):
    write(parts, 0, "k0", "k1", "k2", rejected=BAD)
    write(parts, 1, "k0", "k1")
    parts.write(0, 1, TABLE, [], True, True, PieceKey("k0", "k3"))
    assert [file.name[5:16] for file in parts.part_files()] == [
        "000000-0000",
        "000000-0001",
        *("000001-0000", "000001-0001"),
    ]
    assert [file.name for file in parts.rejected_files()] == ["rejected-000000-0000.parquet"]
    assert parts.finished_chunks() == {0, 1}


@pytest.mark.parametrize("keep", [0, 5, 200, -3])
@pytest.mark.parametrize("kind", ["part", "rejected"])
def test_a_damaged_file_is_told_and_its_piece_not_done(parts, keep, kind):
    write(parts, 0, "k0", "k1", rejected=BAD)
    file = parts.part(0, 1) if kind == "part" else parts.rejected(0, 1)
    file.write_bytes(file.read_bytes()[:keep])
    told = []
    assert parts.done(lambda path, reason: told.append((path, bool(reason)))) == {0: {0: "k0"}}
    assert told == [(file, True)]
    assert parts.finished_chunks() == set()


def test_a_list_of_rejected_crystals_that_does_not_belong_to_its_part(parts):
    write(parts, 0, "k0")
    write(parts, 1, "k0", rejected=BAD)
    # A process was killed before it wrote the part.
    parts.rejected(0, 0).write_bytes(parts.rejected(1, 0).read_bytes())
    parts.rejected(1, 0).unlink()
    told = []
    assert parts.done(lambda path, reason: told.append(path.name)) == {}
    assert told == ["rejected-000000-0000.parquet", "rejected-000001-0000.parquet"]


def test_leftovers_are_removed_but_not_those_of_other_shards(parts, tmp_path):
    names = [
        "part-000000-0000.parquet.7.unfinished",
        "rejected-000001-0000.parquet.7.unfinished",
        "manifest.json.7.unfinished",
    ]
    for name in names:
        (tmp_path / name).touch()
    parts.remove_unfinished([1])
    assert sorted(os.listdir(tmp_path)) == sorted([names[0], names[2]])
    parts.remove_unfinished()
    assert os.listdir(tmp_path) == []


def test_the_manifest_says_what_the_parts_belong_to(parts, tmp_path):
    parts.begin(MANIFEST)
    parts.begin({**MANIFEST, "command": "another", "model": {**MANIFEST["model"], "name": "/elsewhere/m"}})
    assert parts.manifest()["command"] == "dtnn-fast screen x"
    for changed, message in (
        ({"model": {**MANIFEST["model"], "sha256": "9"}}, "contains results of another model"),
        ({"model": {**MANIFEST["model"], "targets": []}}, r"another model[\s\S]*targets: \['total'\] before, \[\] now"),
        ({"source": {**MANIFEST["source"], "paths": ["y"]}}, r"other files[\s\S]*paths: \['x'\] before, \['y'\] now"),
        ({"source": {**MANIFEST["source"], "sha256": "9"}}, "files that have changed since"),
        ({"settings": {"born_charges": True}}, r"other settings[\s\S]*born_charges: False before, True now"),
    ):
        with pytest.raises(DTNNError, match=message):
            parts.begin({**MANIFEST, **changed})
    write(parts, 0, "k0", rejected=BAD)
    parts.remove()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "dtnn_fast screening 2"}'])
def test_another_manifest_is_an_error(parts, tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(BadFileError, match=r"manifest\.json"):
        parts.begin(MANIFEST)


def test_parts_without_manifest_are_an_error(parts):
    write(parts, 0, "k0")
    with pytest.raises(DTNNError, match=r"without their manifest\.json"):
        parts.begin(MANIFEST)


@pytest.mark.parametrize(
    ("held", "wanted", "free"),
    [
        ("screening", "screening", False),
        ("screening", "shard-1-of-3", False),
        ("shard-1-of-3", "screening", False),
        ("shard-1-of-3", "shard-1-of-3", False),
        ("shard-1-of-3", "shard-2-of-3", True),
    ],
)
def test_locks(parts, tmp_path, held, wanted, free):
    with parts.locked(held):
        if free:
            with Parts(tmp_path).locked(wanted):
                pass
        else:
            with pytest.raises(DTNNError, match="another process is screening"), Parts(tmp_path).locked(wanted):
                pass
    with parts.locked(wanted):
        pass


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
def test_a_file_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch, number):
    file = tmp_path / "part-000000-0000.parquet"
    write_synced(file, TABLE)
    before = file.read_bytes()

    def fail(*arguments):
        raise OSError(number, os.strerror(number))

    for function in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(synced_files.os, function, fail)
            with pytest.raises(BadFileError, match=f"cannot be written: {os.strerror(number)}") as error:
                write_synced(file, TABLE.slice(0, 1))
        assert ("free space" in str(error.value)) == (number != errno.EIO)
        assert file.read_bytes() == before
        assert os.listdir(tmp_path) == [file.name]


def test_ctrl_c_leaves_no_half_written_file(tmp_path, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(synced_files.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_text_synced(tmp_path / "a.json", "text")
    assert os.listdir(tmp_path) == []


def test_a_text_is_written(tmp_path):
    write_text_synced(tmp_path / "a.json", "ä\n")
    assert (tmp_path / "a.json").read_bytes() == "ä\n".encode()

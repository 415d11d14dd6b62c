# SPDX-License-Identifier: MIT
"""Databases of ASE in SQLite files."""

import sqlite3
import sys

import pytest
from ase import Atoms
from ase.db import connect
from crystal_examples import ONE_OF_EACH_SYSTEM, assert_same_frame, to_ase

from dtnn_fast.crystals.crystal import Rejected
from dtnn_fast.errors import BadFileError, MissingPackageError
from dtnn_fast.formats.find_files import expand_paths
from dtnn_fast.formats.reading import read_crystals


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "a.db"
    with connect(path) as rows:
        for number, crystal in enumerate(ONE_OF_EACH_SYSTEM):
            pairs = {"material_id": crystal.id} if number else {}
            rows.write(to_ase(crystal), gap=number / 2, remark="abc", data={"x": [1, 2]}, **pairs)
    return path


def test_rows(database):
    items = read_crystals(database)
    assert [item.id for item in items] == ["a:1", *(crystal.id for crystal in ONE_OF_EACH_SYSTEM[1:])]
    for number, (item, crystal) in enumerate(zip(items, ONE_OF_EACH_SYSTEM, strict=True)):
        assert_same_frame(item, crystal, 1e-12)
        assert {key: item.info[key] for key in ("gap", "remark")} == {"gap": number / 2, "remark": "abc"}
        assert item.source == f"{database} (row {number + 1})"
    assert expand_paths([database.parent]).files == [database]


def test_molecules_are_left_to_the_check(database):
    with connect(database) as rows:
        rows.write(Atoms("H2", [[0, 0, 0], [0, 0, 0.7]]))
    *_, molecule = read_crystals(database)
    assert not molecule.pbc.any()


def test_other_files_stay_as_they_are(tmp_path):
    path = tmp_path / "a.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE notes (x INTEGER)")
    connection.close()
    for content in (path.read_bytes(), b"Thumbs", b""):
        path.write_bytes(content)
        with pytest.raises(BadFileError, match="not a SQLite database with ASE's table of systems"):
            read_crystals(path)
        assert path.read_bytes() == content
        found = expand_paths([tmp_path])
        assert (found.files, found.skipped) == ([], [path])
    path.unlink()
    with pytest.raises(BadFileError, match="there is no such file"):
        read_crystals(path)
    assert not path.exists()


def test_damaged_files(database):
    content = database.read_bytes()
    for size in (4096, len(content) // 2):
        database.write_bytes(content[:size])
        with pytest.raises(BadFileError, match="not a database of ASE, or damaged"):
            read_crystals(database)
        assert expand_paths([database.parent]).files == [database]


def test_a_row_that_is_no_crystal(database):
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE systems SET cell = NULL WHERE id = 2")
    connection.close()
    _, bad, *others = read_crystals(database)
    assert isinstance(bad, Rejected)
    assert bad.source == f"{database} (row 2)"
    assert [item.id for item in others] == [crystal.id for crystal in ONE_OF_EACH_SYSTEM[2:]]


def test_a_compressed_database(tmp_path):
    with pytest.raises(BadFileError, match=r"unpack the \.gz first"):
        read_crystals(tmp_path / "a.db.gz")


def test_missing_package(database, monkeypatch):
    monkeypatch.setitem(sys.modules, "ase.db", None)
    with pytest.raises(MissingPackageError, match="needed to read databases of ASE"):
        read_crystals(database)

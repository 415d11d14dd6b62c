# SPDX-License-Identifier: MIT
"""Archives, tables and databases with damaged bytes give crystals or reasons, never another error, and soon."""

import time

import pytest
from crystal_examples import ONE_OF_EACH_SYSTEM, to_ase
from mutations import mutations
from test_archives import write as write_archive
from test_bad_files import CIF, EXTXYZ, JSON, ROW
from test_csv_file import csv_text
from test_parquet_file import ROWS
from test_parquet_file import write as write_parquet

from dtnn_fast.crystals.crystal import Crystal, Rejected
from dtnn_fast.formats.find_files import find_files, read_files

MEMBERS = [("a.cif", CIF), ("b/c.xyz", EXTXYZ), ("d.json", JSON), ("e.jsonl", f"{ROW}\n{ROW}")]


def write(path):
    if path.suffix == ".parquet":
        write_parquet(path, ROWS, row_group_size=2)
    elif path.suffix == ".csv":
        path.write_text(csv_text(["id", "cif", "n"], [["a", CIF, 1], ["b", JSON, 2]]))
    elif path.suffix == ".db":
        from ase.db import connect

        with connect(path) as rows:
            for crystal in ONE_OF_EACH_SYSTEM[:3]:
                rows.write(to_ase(crystal), gap=1.0)
    else:
        write_archive(path, MEMBERS)
    return path.read_bytes()


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".parquet", ".csv", ".db"])
def test_damaged_bytes(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    for mutation in mutations(write(path), 80, seed=3):
        path.write_bytes(mutation.data)
        start = time.perf_counter()
        found = find_files([tmp_path])
        items = [*found.rejected, *read_files(found.files, tables=found.tables)]
        assert time.perf_counter() - start < 5, mutation
        assert all(isinstance(item, Crystal | Rejected) for item in items)
        assert items or found.skipped or found.tables, mutation


@pytest.mark.parametrize(
    ("ending", "data", "new"),
    [
        # A name without letters; names of columns and a schema that are not UTF-8.
        (".zip", b"a.cif", b"\0.cif"),
        (".parquet", b"lattice_vectors", b"l\xecttice_vectors"),
        (".db", b"CREATE TABLE species", b"CREATE \xd8ABLE species"),
    ],
)
def test_names_in_damaged_files(tmp_path, ending, data, new):
    path = tmp_path / f"a{ending}"
    content = write(path)
    assert data in content
    path.write_bytes(content.replace(data, new))
    found = find_files([tmp_path])
    items = list(read_files(found.files))
    assert items or found.skipped
    assert all(isinstance(item, Crystal | Rejected) for item in items)

# SPDX-License-Identifier: MIT
"""Parquet with OPTIMADE's names: the rows of LeMat-Bulk and of packed data."""

import datetime
import json
import re
import sys
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from crystal_examples import ONE_OF_EACH_SYSTEM
from pyarrow import parquet

from dtnn_fast.crystals.crystal import Crystal, Rejected
from dtnn_fast.crystals.elements import SYMBOLS
from dtnn_fast.errors import BadFileError, MissingPackageError
from dtnn_fast.formats.find_files import expand_paths
from dtnn_fast.formats.parquet_file import iter_parquet_rows
from dtnn_fast.formats.reading import read_crystals


def row_of(crystal, **changes):
    return {
        "immutable_id": crystal.id,
        "lattice_vectors": crystal.cell.tolist(),
        "cartesian_site_positions": crystal.positions.tolist(),
        "species_at_sites": [SYMBOLS[z] for z in crystal.atomic_numbers],
        **changes,
    }


def write(path, rows, schema=None, **options):
    parquet.write_table(pa.Table.from_pylist(rows, schema), path, **options)
    return path


ROWS = [row_of(crystal) for crystal in ONE_OF_EACH_SYSTEM]


def assert_same(item, crystal):
    assert isinstance(item, Crystal), item
    assert item.id == crystal.id
    assert item.atomic_numbers.tolist() == crystal.atomic_numbers.tolist()
    assert item.positions.tolist() == crystal.positions.tolist()
    assert item.cell.tolist() == crystal.cell.tolist()
    assert item.pbc.all()


@pytest.mark.parametrize("lists", [pa.list_, pa.large_list, lambda inner: pa.list_(inner, 3)])
def test_crystals_are_exact(tmp_path, lists):
    schema = pa.schema(
        {
            "immutable_id": pa.string(),
            "lattice_vectors": lists(lists(pa.float64())),
            "cartesian_site_positions": pa.list_(lists(pa.float64())),
            "species_at_sites": pa.list_(pa.string()),
        }
    )
    path = write(tmp_path / "a.parquet", ROWS, schema, row_group_size=2)
    items = read_crystals(path)
    for item, crystal in zip(items, ONE_OF_EACH_SYSTEM, strict=True):
        assert_same(item, crystal)
        assert item.info == {}
    assert items[2].source == f"{path} (row 3)"
    assert expand_paths([tmp_path]).files == [path]


def test_columns_of_lemat_bulk(tmp_path):
    more = {
        "elements": ["Pt"],
        "nsites": 0,
        "nperiodic_dimensions": 3,
        "dimension_types": [1, 1, 1],
        "species": [],
        "last_modified": datetime.datetime(2024, 1, 2, 3, 4),
        "energy": -1.5,
        "functional": "pbe",
        "cross_compatibility": True,
        "forces": [[0.0, 0.0, 0.0]],
        "dos_ef": None,
        "weight": float("nan"),
        "remark": "x" * 300,
    }
    rows = []
    for crystal in ONE_OF_EACH_SYSTEM:
        names = sorted({SYMBOLS[z] for z in crystal.atomic_numbers})
        species = [{"name": name, "chemical_symbols": [name], "concentration": [1.0]} for name in names]
        rows.append(row_of(crystal, **{**more, "species": species, "nsites": crystal.num_atoms}))
    for number, form in enumerate([rows, [{**row, "species": json.dumps(row["species"])} for row in rows]]):
        items = read_crystals(write(tmp_path / f"{number}.parquet", form))
        for item, crystal in zip(items, ONE_OF_EACH_SYSTEM, strict=True):
            assert_same(item, crystal)
            assert item.info == {
                **{"nsites": crystal.num_atoms, "nperiodic_dimensions": 3, "last_modified": "2024-01-02T03:04:00"},
                **{"energy": -1.5, "functional": "pbe", "cross_compatibility": True},
            }


def test_row_groups(tmp_path):
    path = write(tmp_path / "a.parquet", ROWS, row_group_size=3)
    sources = [item.source for item in iter_parquet_rows(path)]
    assert [item.source for item in iter_parquet_rows(path, [1])] == sources[3:6]
    assert [item.source for item in iter_parquet_rows(str(path), [2, 0])] == [*sources[6:], *sources[:3]]
    assert list(iter_parquet_rows(path, [])) == []
    for number in (-1, 3):
        with pytest.raises(BadFileError, match=f"expected row groups from 0 to 2, got {number}"):
            list(iter_parquet_rows(path, [number]))


def test_ids(tmp_path):
    rows = [{key: value for key, value in row.items() if key != "immutable_id"} for row in ROWS[:2]]
    assert [item.id for item in read_crystals(write(tmp_path / "a.parquet", rows))] == ["a:1", "a:2"]
    rows = [{**row, "id": f"x{number}"} for number, row in enumerate(ROWS[:2])]
    items = read_crystals(write(tmp_path / "b.parquet", rows))
    assert [item.id for item in items] == ["x0", "x1"]
    assert items[0].info == {"immutable_id": ROWS[0]["immutable_id"]}


HALF = [{"name": "O", "chemical_symbols": ["O", "vacancy"], "concentration": [0.5, 0.5]}]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"lattice_vectors": None}, "lattice_vectors is not given"),
        (
            {"cartesian_site_positions": None, "species_at_sites": None},
            "positions, species_at_sites is not given",
        ),
        ({"cartesian_site_positions": [[0.0, 0.0]] * 2}, r"`positions` of shape \[2, 3\]"),
        ({"cartesian_site_positions": [[0.0, 0.0, None]] * 2}, "`positions`|not finite"),
        (
            {"cartesian_site_positions": [[0.0, 0.0, 0.0]]},
            r"`positions` of shape \[2, 3\], one for each .* got \[1, 3\]",
        ),
        ({"lattice_vectors": [[4.0, 0.0, 0.0]] * 2}, r"`cell` of shape \[3, 3\]"),
        ({"species_at_sites": ["O", "Xx"]}, "site 1 holds 'Xx', which is not an element"),
        ({"nperiodic_dimensions": 2}, "nperiodic_dimensions is 2"),
        ({"species": json.dumps(HALF)}, "partial occupancy of species 'O'"),
        ({"species": "[{"}, "species is not valid JSON"),
        ({"structure_features": ["implicit_atoms"]}, "atoms without positions"),
        ({"structure_features": ["site_attachments"]}, "atoms attached to sites"),
        ({"structure_features": ["disorder"]}, "partial occupancy"),
    ],
)
def test_a_bad_row_among_good_ones(tmp_path, change, reason):
    good = {
        **{"immutable_id": "x", "lattice_vectors": np.eye(3).tolist(), "species_at_sites": ["O", "O"]},
        **{"cartesian_site_positions": [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]], "nperiodic_dimensions": 3},
        **{"species": None, "structure_features": None},
    }
    path = write(tmp_path / "a.parquet", [good, {**good, "immutable_id": "bad", **change}, good])
    first, bad, last = read_crystals(path)
    assert first.num_atoms == last.num_atoms == 2
    if isinstance(bad, Crystal):  # left to check_crystal
        assert np.isnan(bad.positions).any()
        return
    assert isinstance(bad, Rejected)
    assert (bad.id, bad.source) == ("bad", f"{path} (row 2)")
    assert re.search(reason, bad.reason), bad.reason


def test_bad_files(tmp_path):
    path = tmp_path / "a.parquet"
    for content, message in [(b"", "not a Parquet file, or damaged"), (b"PAR1 junk PAR1", "not a Parquet file")]:
        path.write_bytes(content)
        with pytest.raises(BadFileError, match=message):
            read_crystals(path)
    path.unlink()
    with pytest.raises(BadFileError, match="there is no such file"):
        read_crystals(path)
    write(path, [{"lattice_vectors": 1, "band_gap": 1.0}])
    with pytest.raises(BadFileError, match=r"no structures in it: .*; missing cartesian_site_pos\w+, species_at_sites"):
        read_crystals(path)
    write(path, ROWS)
    data = path.read_bytes()
    for end in (4, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:end])
        with pytest.raises(BadFileError, match=re.escape(str(path))):
            read_crystals(path)


def test_columns_of_other_types(tmp_path):
    row = {"lattice_vectors": "1 0 0", "cartesian_site_positions": 3, "species_at_sites": ["O"]}
    (item,) = read_crystals(write(tmp_path / "a.parquet", [row]))
    assert isinstance(item, Rejected)


def test_missing_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingPackageError, match=r"needed to read Parquet files: .*dtnn-fast\[cli\]"):
        read_crystals(tmp_path / "a.parquet")


def test_memory_stays_flat(tmp_path):
    path = tmp_path / "a.parquet"
    table = pa.Table.from_pylist(ROWS * 100)
    with parquet.ParquetWriter(path, table.schema) as writer:
        for _ in range(10):
            writer.write_table(table)
    tracemalloc.start()
    try:
        peaks = []
        for number, item in enumerate(iter_parquet_rows(path)):
            assert isinstance(item, Crystal)
            if number % (len(ROWS) * 200) == len(ROWS) * 200 - 1:
                peaks.append(tracemalloc.get_traced_memory()[1])
                tracemalloc.reset_peak()
    finally:
        tracemalloc.stop()
    assert number == len(ROWS) * 1000 - 1
    assert peaks[-1] < 1.1 * peaks[1]

# SPDX-License-Identifier: MIT
"""Packed crystals keep every bit; damaged files and other Parquet files are errors that name the file."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pyarrow import parquet

from dtnn_fast.crystals import Crystal, Rejected, SymmetryOperations
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.errors import BadFileError
from dtnn_fast.formats.crystal_shards import FORMAT, crystals_of_table, crystals_to_table, packed_shards, read_shard
from dtnn_fast.screening.preparation import described
from dtnn_fast.symmetry import with_operations


def assert_same(found, expected):
    assert (found.id, found.source, found.info) == (expected.id, expected.source, expected.info)
    for name in ("atomic_numbers", "positions", "cell", "pbc"):
        mine, other = getattr(found, name), getattr(expected, name)
        assert mine.dtype == other.dtype
        assert mine.shape == other.shape
        assert mine.tobytes() == other.tobytes(), name
    assert (found.operations is None) == (expected.operations is None)
    if expected.operations is not None:
        for mine, other in zip(found.operations, expected.operations, strict=True):
            assert mine.dtype == other.dtype
            np.testing.assert_array_equal(mine, other)


numbers = st.floats(-1e3, 1e3)
info = st.dictionaries(
    st.text(max_size=4).filter(lambda name: name not in ("space_group", "crystal_system", "prototype")),
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=4), st.lists(st.text())
    ),
    max_size=3,
)


@st.composite
def crystals(draw):
    atoms = draw(st.integers(1, 5))
    operations = None
    if draw(st.booleans()):
        count = draw(st.integers(1, 4))
        operations = SymmetryOperations(
            draw(arrays.arrays(np.int32, (count, 3, 3), elements=st.integers(-9, 9))),
            draw(arrays.arrays(np.int64, count, elements=st.integers(0, atoms - 1))),
        )
    facts = draw(st.sampled_from([{}, {"space_group": 225, "crystal_system": "cubic", "prototype": "A_225_1@m-3m"}]))
    return Crystal(
        draw(st.text(max_size=5)),
        draw(arrays.arrays(np.int64, atoms, elements=st.integers(1, 103))),
        draw(arrays.arrays(np.float64, (atoms, 3), elements=numbers)),
        draw(arrays.arrays(np.float64, (3, 3), elements=numbers)),
        draw(arrays.arrays(np.bool_, 3)),
        source=draw(st.text(max_size=5)),
        info={**draw(info), **facts},
        operations=operations,
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(crystals(), max_size=5), st.integers(1, 3))
def test_round_trip(tmp_path_factory, some, rows):
    path = tmp_path_factory.mktemp("shard") / "shard-000000.parquet"
    parquet.write_table(crystals_to_table(some), path, row_group_size=rows)
    found = list(read_shard(path))
    assert len(found) == len(some)
    for mine, other in zip(found, some, strict=True):
        assert_same(mine, other)


def test_round_trip_of_real_crystals(tmp_path):
    some = [described(crystal) for crystal in with_operations(load_labelled()[:30])]
    assert any(crystal.operations is not None for crystal in some)
    path = tmp_path / "shard-000000.parquet"
    parquet.write_table(crystals_to_table(some), path, row_group_size=8)
    for mine, other in zip(read_shard(path), some, strict=True):
        assert_same(mine, replace(other, targets={}, born_charges=None))
    second = list(read_shard(path, [1]))
    assert [crystal.id for crystal in second] == [crystal.id for crystal in some[8:16]]


def test_a_slice_of_a_table():
    some = with_operations(load_labelled()[:9])
    for mine, other in zip(crystals_of_table(crystals_to_table(some).slice(3, 4)), some[3:7], strict=True):
        assert_same(mine, replace(other, targets={}, born_charges=None))


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "shard-000000.parquet"
    parquet.write_table(crystals_to_table(load_labelled()[:4]), path)
    return path


@pytest.mark.parametrize("keep", [0, 3, 200, -1, -300])
def test_truncated_files(shard, keep):
    shard.write_bytes(shard.read_bytes()[:keep])
    with pytest.raises(BadFileError, match=r"shard-000000\.parquet: damaged"):
        list(read_shard(shard))


def test_every_flipped_byte_is_an_error_or_a_crystal(shard):
    """It may change a number, but ends neither the process nor with another error."""
    whole = shard.read_bytes()
    random = np.random.default_rng(0)
    for place in random.integers(0, len(whole), 400):
        data = bytearray(whole)
        data[place] ^= 1 << random.integers(8)
        shard.write_bytes(data)
        try:
            found = list(read_shard(shard))
        except BadFileError:
            continue
        assert all(isinstance(item, Crystal | Rejected) for item in found)


def test_other_parquet_files_are_refused(shard):
    parquet.write_table(pa.table({"id": ["a"]}), shard)
    with pytest.raises(
        BadFileError, match=f"shard-000000.parquet: expected a shard of dtnn-fast pack \\(format '{FORMAT}'\\)"
    ):
        list(read_shard(shard))
    table = crystals_to_table(load_labelled()[:2])
    parquet.write_table(table.drop_columns(["nsites"]), shard)
    with pytest.raises(BadFileError, match="expected the column 'nsites' of type int32, got no such column"):
        list(read_shard(shard))
    wrong = table.set_column(0, "id", pa.array([1, 2]))
    parquet.write_table(wrong, shard)
    with pytest.raises(BadFileError, match="expected the column 'id' of type string, got int64"):
        list(read_shard(shard))
    with pytest.raises(BadFileError, match="damaged"):
        list(read_shard(shard.with_name("missing.parquet")))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("species_at_sites", ["Xx", "O"]),
        ("species_at_sites", ["O"]),
        ("species_at_sites", None),
        ("nsites", 3),
        ("nsites", -1),
        ("nsites", None),
        ("lattice_vectors", [[1.0, 0, 0]]),
        ("lattice_vectors", None),
        ("cartesian_site_positions", [[0.0, 0.0, 0.0]]),
        ("cartesian_site_positions", [[0.0, 0.0], [0.0, 0.0, 1.0]]),
        ("dimension_types", [1, 1]),
        ("info", "[]"),
        ("info", "{"),
        ("info", None),
        ("id", None),
        ("operation_images", [1, 2, 3]),
        ("operation_images", [9]),
    ],
)
def test_a_damaged_row_leaves_the_others(tmp_path, column, value):
    """Written by another program, or by hand."""
    mgo = Crystal.make("MgO", [12, 8], [[0, 0, 0], [2.1, 2.1, 2.1]], 4.2 * np.eye(3))
    mgo = replace(mgo, operations=SymmetryOperations.identity())
    table = crystals_to_table([replace(mgo, id=f"c{row}") for row in range(3)])
    values = table[column].to_pylist()
    values[1] = value
    place = table.schema.get_field_index(column)
    table = table.set_column(place, table.schema.field(place), pa.array(values, table.schema.field(place).type))
    path = tmp_path / "shard-000000.parquet"
    parquet.write_table(table, path)
    first, bad, last = read_shard(path)
    for item, name in ((first, "c0"), (last, "c2")):
        assert_same(item, replace(mgo, id=name))
    assert isinstance(bad, Rejected), bad
    assert bad.reason
    assert "shard-000000.parquet" in bad.source or bad.source == "" or bad.id == "c1"


def test_the_list_of_shards(tmp_path, shard):
    assert packed_shards(tmp_path) is None
    listing = tmp_path / "packed.json"
    listing.write_text(json.dumps({"format": FORMAT, "shards": [{"name": shard.name}]}))
    assert packed_shards(tmp_path) == [shard]
    for text, message in (
        ("{", "cannot be read"),
        (json.dumps({"format": "x", "shards": []}), "not the list of a packed folder"),
        (json.dumps({"format": FORMAT, "shards": [{"name": 1}]}), "not the list of a packed folder"),
        (json.dumps({"format": FORMAT, "shards": ["a"]}), "not the list of a packed folder"),
        (json.dumps({"format": FORMAT, "shards": 3}), "not the list of a packed folder"),
        (json.dumps({"format": FORMAT}), "not the list of a packed folder"),
        (json.dumps({"format": FORMAT, "shards": [{"name": "no.parquet"}]}), r"no\.parquet: missing"),
        (json.dumps({"format": FORMAT, "shards": [{"name": "../out.parquet"}]}), "not the list of a packed folder"),
    ):
        listing.write_text(text)
        with pytest.raises(BadFileError, match=message):
            packed_shards(tmp_path)

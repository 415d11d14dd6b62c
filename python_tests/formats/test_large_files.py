# SPDX-License-Identifier: MIT
"""Large files are read in parts: the same crystals as of the whole text, in flat memory."""

import bz2
import gzip
import json
import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_bad_files import CIF, EXTXYZ, ROW
from test_json_structures import CONTAINERS, ENTRY, STRUCTURE

from dtnn_fast.crystals.crystal import Crystal, Rejected
from dtnn_fast.errors import BadFileError
from dtnn_fast.formats import compressed, text_files
from dtnn_fast.formats.find_files import read_files
from dtnn_fast.formats.json_tokens import JsonTokens
from dtnn_fast.formats.reading import iter_crystals, read_crystals


@pytest.fixture
def in_parts(monkeypatch):
    """Read every text file as if it were large, by chunks of a prime number of bytes."""

    def start(size=101):
        monkeypatch.setattr(text_files, "WHOLE_BYTES", 0)
        monkeypatch.setattr(compressed, "CHUNK_BYTES", size)

    return start


def items_of(path):
    """What is read of a file, and the message of the error that ends it."""
    items, message = [], None
    try:
        items.extend(iter_crystals(path))
    except BadFileError as error:
        message = str(error)
    return items, message


def summary(item):
    if isinstance(item, Rejected):
        return (item.id, item.source, item.reason)
    return (item.id, item.source, item.formula, item.positions.tolist(), item.cell.tolist(), item.info)


@pytest.mark.parametrize("size", [7, 101, 10_007])
@pytest.mark.parametrize("name", CONTAINERS)
def test_containers_of_json(tmp_path, in_parts, name, size):
    value, ids = CONTAINERS[name]
    path = tmp_path / "a.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value, indent=1))
    expected = read_crystals(path)
    in_parts(size)
    items, message = items_of(path)
    if name.startswith("columns"):
        assert re.search("the columns (n|mpid, material_id) come after the structures .* are left out", message)
        assert len(items) == len(expected)
        return
    assert message is None
    assert [item.id for item in items] == ids
    assert list(map(summary, items)) == list(map(summary, expected))


def test_columns_in_front_of_the_structures_are_kept(tmp_path, in_parts):
    path = tmp_path / "a.json"
    table = {"material_id": {"0": "x", "1": "y"}, "gap": {"0": 1.5, "1": None}, "cse": {"0": ENTRY, "1": ENTRY}}
    path.write_text(json.dumps(table))
    in_parts()
    first, second = iter_crystals(path)
    assert (first.id, second.id) == ("x", "y")
    assert first.info["gap"] == 1.5
    assert first.info["energy"] == -10.0
    assert "gap" not in second.info


def test_two_columns_of_structures_are_not_read_twice(tmp_path, in_parts):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"initial_structure": {"0": STRUCTURE}, "structure": {"0": STRUCTURE}}))
    in_parts()
    items, message = items_of(path)
    assert len(items) == 1
    assert "several columns of structures" in message


def test_bad_entries_among_good_ones(tmp_path, in_parts):
    disordered = json.loads(json.dumps(STRUCTURE).replace('"occu": 1', '"occu": 0.5', 1))
    for value in (
        {"entries": [{}, ENTRY, 3, {"entry_id": "half", "structure": disordered}, ENTRY], "meta": {"n": 4}},
        {"x": ENTRY, "n": 3, "half": disordered},
        [ENTRY, None, disordered],
    ):
        path = tmp_path / "a.json"
        path.write_text(json.dumps(value))
        expected = read_crystals(path)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(text_files, "WHOLE_BYTES", 0)
            assert list(map(summary, iter_crystals(path))) == list(map(summary, expected))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"entries": [<>, <>', "the file is truncated"),
        ('{"entries": [<>, {"a": nonsense}]}', "not valid JSON: Expecting value"),
        ('{"entries": [<>, <>] "b"', "not valid JSON: Expecting ',' or '}'"),
        ("[<>] []", "not valid JSON: Extra data"),
        ('[<>, {"a": 1, "a": 2}]', "the key 'a' occurs twice"),
        (f"[<>, {'[' * 100_000}]", "nested too deeply"),
    ],
)
def test_damage_behind_good_entries(tmp_path, in_parts, text, message):
    path = tmp_path / "a.json"
    path.write_text(text.replace("<>", json.dumps(ENTRY)))
    in_parts()
    items, error = items_of(path)
    assert items
    assert all(isinstance(item, Crystal) for item in items)
    assert error.startswith(f"{path}: ")
    assert message in error
    *good, last = read_files([path])
    assert len(good) == len(items)
    assert isinstance(last, Rejected)
    assert last.source == str(path)


@pytest.mark.parametrize(
    "text", ["{}", "[]", '{"a": 1}', "[[]]", '{"structure": 3}', "3", '"text"', '{"entries": [3]}']
)
def test_no_structures(tmp_path, in_parts, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    in_parts(2)
    items, error = items_of(path)
    assert "no structure in it" in error
    assert all(isinstance(item, Rejected) for item in items)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", "\n".join([ROW, "", "{", ROW, ROW[:40]])),
        ("a.jsonl", f"{ROW}\r\n{ROW}\r\n"),
        ("a.xyz", EXTXYZ),
        ("a.xyz", "\n\n".join([EXTXYZ, EXTXYZ.replace("Na", "Qq"), EXTXYZ])),
        ("a.xyz", EXTXYZ + EXTXYZ[:-8]),
        ("a.xyz", EXTXYZ + "x\n"),
    ],
)
def test_lines_and_frames(tmp_path, in_parts, name, text):
    path = tmp_path / name
    path.write_text(text)
    expected, message = items_of(path)
    in_parts(7)
    items, message_in_parts = items_of(path)
    assert list(map(summary, items)) == list(map(summary, expected))
    assert message_in_parts == message


TEXT_FIELD = "_publ_section_title\n;\ndata_not_a_block _atom_site_\ndata_x\n;\n"


@pytest.mark.parametrize(
    "blocks",
    [
        [CIF],
        [f"data_global\n{TEXT_FIELD}", CIF],
        [f"# comment\ndata_global\n{TEXT_FIELD}", CIF, CIF.replace("data_PtO2", "DATA_other") + TEXT_FIELD],
        [CIF, CIF.replace("data_PtO2", "data_half").replace("  1\n", "  0.5\n")],
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_blocks_of_cif(tmp_path, in_parts, blocks, end):
    path = tmp_path / "a.cif"
    path.write_bytes("\n".join(blocks).replace("\n", end).encode())
    expected = read_crystals(path)
    in_parts()
    assert list(map(summary, iter_crystals(path))) == list(map(summary, expected))


def test_a_damaged_block_among_good_ones(tmp_path, in_parts):
    path = tmp_path / "a.cif"
    path.write_text("\n".join([CIF, "data_bad\nloop_\n_a\n_b\n1", CIF, CIF.replace("data_PtO2", "data_y")]))
    in_parts()
    first, bad, again, last = iter_crystals(path)
    assert [item.id for item in (first, again, last)] == ["a:PtO2", "a:PtO2:3", "a:y"]
    assert (bad.id, bad.source) == ("a:bad", f"{path} (data_bad)")
    assert "not valid CIF" in bad.reason
    path.write_text("\n".join(["data_bad\nloop_\n_a\n_b\n1", CIF]))
    assert [item.id for item in iter_crystals(path)] == ["a:bad", "a:PtO2"]
    path.write_text("data_x\n_a 1\n" * 3)
    with pytest.raises(BadFileError, match="no atoms"):
        read_crystals(path)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values), st.integers(1, 9), st.sampled_from([None, 1]), st.booleans())
def test_values_do_not_depend_on_the_chunks(values, size, indent, ascii_only):
    text = json.dumps(values, indent=indent, ensure_ascii=ascii_only)
    tokens = JsonTokens("x", [text[place : place + size] for place in range(0, len(text), size)])
    assert {key: tokens.value() for key in tokens.members()} == values
    tokens.finish()


def entries_of(count):
    """Text of an Alexandria file with different entries."""
    for number in range(count):
        entry = {
            **ENTRY,
            "entry_id": f"agm{number}",
            "data": {"e_above_hull": number / 7, "band_gap_ind": float("nan")},
        }
        yield json.dumps(entry)


@pytest.mark.parametrize("ending", ["json.bz2", "jsonl.gz"])
def test_memory_stays_flat(tmp_path, monkeypatch, ending):
    path = tmp_path / f"a.{ending}"
    count = 6000
    if ending.startswith("jsonl"):
        data = gzip.compress("\n".join(entries_of(count)).encode())
    else:
        data = bz2.compress(f'{{"entries": [{", ".join(entries_of(count))}]}}'.encode())
    path.write_bytes(data)
    monkeypatch.setattr(text_files, "WHOLE_BYTES", 1 << 18)
    tracemalloc.start()
    try:
        peaks = []
        for number, item in enumerate(iter_crystals(path)):
            assert isinstance(item, Crystal)
            assert item.id == f"agm{number}"
            assert item.info["e_above_hull"] == number / 7
            if number % (count // 6) == count // 6 - 1:
                peaks.append(tracemalloc.get_traced_memory()[1])
                tracemalloc.reset_peak()
    finally:
        tracemalloc.stop()
    assert number == count - 1
    assert max(peaks[1:]) < 8 << 20
    assert peaks[-1] < 1.1 * np.mean(peaks[1:3])

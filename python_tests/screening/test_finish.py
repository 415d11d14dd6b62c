# SPDX-License-Identifier: MIT
"""Unique ids, duplicates and rejected crystals of a finished screening; also where it was killed in between."""

import csv
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_cases import orthogonal, permuted, recelled, transformed
from pyarrow import parquet

from dtnn_fast.crystals.crystal import Crystal, Rejected
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.errors import BadFileError, DTNNError, MissingPackageError
from dtnn_fast.formats.crystal_shards import crystals_to_table
from dtnn_fast.screening import finish
from dtnn_fast.screening.duplicates import find_duplicates
from dtnn_fast.screening.finish import make_ids_unique, mark_duplicates, require_all_chunks, write_rejected_csv
from dtnn_fast.screening.parts import Parts
from dtnn_fast.screening.preparation import described


class Killed(BaseException):
    pass


def write_ids(folder, lists):
    files = []
    for number, ids in enumerate(lists):
        files.append(folder / f"{number}.parquet")
        parquet.write_table(pa.table({"id": pa.array(ids, pa.string())}, metadata={"kept": "yes"}), files[-1])
    return files


def ids_of(files):
    return [parquet.read_table(file)["id"].to_pylist() for file in files]


def test_repeated_ids_have_suffixes(tmp_path):
    files = write_ids(tmp_path, [["a", "b", "a"], ["c"], ["a", "b"]])
    untouched = files[1].stat().st_mtime_ns
    assert make_ids_unique(files) == 3
    assert ids_of(files) == [["a", "b", "a#2"], ["c"], ["a#3", "b#2"]]
    assert files[1].stat().st_mtime_ns == untouched
    assert parquet.read_schema(files[0]).metadata[b"kept"] == b"yes"
    assert make_ids_unique(files) == 0
    assert make_ids_unique([]) == 0


def test_suffixes_that_are_taken_are_left_out(tmp_path):
    files = write_ids(tmp_path, [["a", "a", "a"], ["a#2", "a#2", "a#4"]])
    make_ids_unique(files)
    assert ids_of(files) == [["a", "a#3", "a#5"], ["a#2", "a#2#2", "a#4"]]


names = st.lists(st.lists(st.sampled_from(["a", "b", "a#2", "a#3", "a#2#2", "b#2", "#2"]), max_size=5), max_size=5)


@settings(max_examples=60, deadline=None)
@given(names, st.integers(1, 5))
def test_ids_become_unique_also_when_killed_in_between(tmp_path_factory, lists, kill_at):
    folder = tmp_path_factory.mktemp("ids")
    files = write_ids(folder, lists)
    make_ids_unique(files)
    expected = ids_of(files)
    every = [name for ids in expected for name in ids]
    assert len(set(every)) == len(every)
    # The first of each name keeps it.
    before = [name for ids in lists for name in ids]
    for place, name in enumerate(before):
        assert every[place].startswith(name)
        assert (every[place] == name) == (name not in before[:place])
    write_ids(folder, lists)
    count = 0
    replace = finish.write_synced

    def die(path, table):
        nonlocal count
        count += 1
        if count == kill_at:
            raise Killed
        replace(path, table)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finish, "write_synced", die)
        try:
            make_ids_unique(files)
        except Killed:
            patch.setattr(finish, "write_synced", replace)
            make_ids_unique(files)
    assert ids_of(files) == expected


@pytest.fixture(scope="module")
def families():
    """Crystals with different descriptions of themselves, and another volume of the first."""
    originals = [crystal for crystal in load_labelled() if 1 < crystal.num_atoms < 6][:12:4]
    found = []
    for number, crystal in enumerate(originals):
        order = np.random.default_rng(number).permutation(crystal.num_atoms)
        found += [
            crystal,
            permuted(transformed(crystal, orthogonal(number, improper=True)), order),
            recelled(crystal, [[1, 1, 0], [0, 1, 0], [0, 0, 2]]),
        ]
    first = originals[0]
    found.append(Crystal.make("larger", first.atomic_numbers, 1.4 * first.positions, 1.4 * first.cell))
    return found


def test_duplicates_among_crystals(families):
    assert find_duplicates(families[:3]) == [None, 0, 0]
    assert find_duplicates([families[0], families[-1], families[1]]) == [None, None, 0]
    assert find_duplicates([]) == []


def write_crystals(folder, crystals, in_file=4):
    files = []
    for start in range(0, len(crystals), in_file):
        files.append(folder / f"shard-{start:03d}.parquet")
        named = [
            Crystal.make(f"c{start + place}", crystal.atomic_numbers, crystal.positions, crystal.cell)
            for place, crystal in enumerate(crystals[start : start + in_file])
        ]
        parquet.write_table(crystals_to_table([described(crystal) for crystal in named]), files[-1])
    return files


def duplicates_of(files):
    return [value for file in files for value in parquet.read_table(file)["duplicate_of"].to_pylist()]


def test_duplicates_are_marked_also_when_killed_in_between(families, tmp_path, monkeypatch):
    files = write_crystals(tmp_path, families)
    groups = []
    assert mark_duplicates(files, groups.append) == 6
    expected = [None, "c0", "c0", None, "c3", "c3", None, "c6", "c6", None]
    assert duplicates_of(files) == expected
    assert sorted(groups) == [3, 3, 4]
    before = [file.stat().st_mtime_ns for file in files]
    assert mark_duplicates(files) == 6
    assert [file.stat().st_mtime_ns for file in files] == before
    write_crystals(tmp_path, families)
    with monkeypatch.context() as patch:
        patch.setattr(finish, "write_synced", _dying_after(1, finish.write_synced))
        with pytest.raises(Killed):
            mark_duplicates(files)
    assert mark_duplicates(files) == 6
    assert duplicates_of(files) == expected


def _dying_after(number, function):
    def call(*arguments):
        nonlocal number
        function(*arguments)
        number -= 1
        if number == 0:
            raise Killed

    return call


def test_duplicates_without_pymatgen(families, tmp_path, monkeypatch):
    def missing(crystals):
        raise MissingPackageError("pymatgen")

    monkeypatch.setattr(finish, "find_duplicates", missing)
    assert mark_duplicates(write_crystals(tmp_path, families)) is None


def test_the_list_of_rejected_crystals(tmp_path):
    parts = Parts(tmp_path)
    rejected = [Rejected(f"r{number}", "a, b.cif", 'first line\nsecond "line"') for number in range(3)]
    table = pa.table({"id": ["a"]})
    parts.write(1, 0, table, rejected[2:], True, True)
    parts.write(0, 0, table, rejected[1:2], True, True)
    path = tmp_path / "rejected.csv"
    assert write_rejected_csv(path, parts, rejected[:1]) == 3
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["r0", "r1", "r2"]
    assert Counter((row["source"], row["reason"]) for row in rows) == {("a, b.cif", 'first line second "line"'): 3}
    parts.rejected(1, 0).write_bytes(b"PAR1")
    with pytest.raises(BadFileError, match="damaged"):
        write_rejected_csv(path, parts, [])
    # What was there stays whole.
    assert len(path.read_text().splitlines()) == 4


def test_missing_chunks_are_named(tmp_path):
    parts = Parts(tmp_path)
    for chunk in (0, 2):
        parts.write(chunk, 0, pa.table({"id": ["a"]}), [], True, True)
    require_all_chunks(parts, 1)
    with pytest.raises(DTNNError, match=r"7 of 9 chunks are not screened yet \(numbers 1, 3, 4, 5, 6, \.\.\.\)"):
        require_all_chunks(parts, 9)

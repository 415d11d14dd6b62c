# SPDX-License-Identifier: MIT
"""Ids of crystals are unique in one call, and do not depend on the order of the files."""

import json
from pathlib import Path

import pytest
from test_json_structures import STRUCTURE

from dtnn_fast.crystals.crystal import Rejected
from dtnn_fast.formats.file_ids import default_id, unique_default_ids
from dtnn_fast.formats.find_files import expand_paths, read_files

POSCAR = "Po\n1.0\n3 0 0\n0 3 0\n0 0 3\nPo\n1\nDirect\n0 0 0\n"
POSCAR_NAMES = ("POSCAR", "a.vasp", "POSCAR-unitcell")


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("calc/a.cif", "a"),
        ("calc/A.CIF.GZ", "A"),
        ("calc/Fe2.5O4.json", "Fe2.5O4"),
        ("calc/POSCAR", "calc/POSCAR"),
        ("calc/CONTCAR.gz", "calc/CONTCAR.gz"),
        ("calc/POSCAR-unitcell", "POSCAR-unitcell"),
        ("calc/POSCAR.mp-149", "POSCAR.mp-149"),
        ("calc/POSCAR.vasp", "POSCAR"),
    ],
)
def test_default_id(file, expected):
    assert default_id(Path(file)) == expected


@pytest.mark.parametrize(
    "expected",
    [
        {"/x/a.cif": "a", "/x/b.cif": "b"},
        {"/x/calc/mp-1/s.json": "mp-1/s", "/x/calc/mp-2/s.json": "mp-2/s", "/x/other.json": "other"},
        {"/x/a/1/s.json": "a/1/s", "/x/b/1/s.json": "b/1/s", "/x/b/2/s.json": "2/s"},
        {"/x/s.json": "x/s", "/x/y/s.json": "y/s"},
        {"/s.json": "/s", "/y/s.json": "y/s"},
        {"/x/a.cif": "x/a.cif", "/x/a.json": "x/a.json", "/y/a.json": "y/a"},
        {"/x/a/POSCAR": "x/a/POSCAR", "/y/a/POSCAR": "y/a/POSCAR", "/y/b/POSCAR": "b/POSCAR"},
    ],
)
def test_parent_folders_stand_in_front_of_repeated_names(expected):
    files = list(map(Path, expected))
    for order in (files, files[::-1]):
        assert unique_default_ids(order) == dict(zip(files, expected.values(), strict=True))


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def ids_of(files, **options):
    return {item.source: item.id for item in read_files(files, **options)}


def test_case_22_structures_in_folders(tmp_path):
    files = [write(tmp_path / "calc" / name / "structure.json", STRUCTURE) for name in ("mp-1", "mp-2")]
    expected = {str(files[0]): "mp-1/structure", str(files[1]): "mp-2/structure"}
    assert ids_of(files) == ids_of(files[::-1]) == ids_of(iter(files)) == expected
    assert ids_of(iter(files), listed=files) == expected
    assert ids_of(files[:1]) == {str(files[0]): "structure"}
    assert set(ids_of(files, unique_ids=False).values()) == {"structure"}


def test_unit_cells_of_phonopy(tmp_path):
    for number in range(23):
        write(tmp_path / f"example-{number}" / "POSCAR-unitcell", POSCAR)
    ids = ids_of(expand_paths([tmp_path]).files)
    assert sorted(ids.values()) == sorted(f"example-{number}/POSCAR-unitcell" for number in range(23))


def test_entries_within_files(tmp_path):
    files = [
        write(tmp_path / "a" / "set.json", [STRUCTURE, STRUCTURE, {"structure": STRUCTURE, "material_id": "mp-1"}]),
        write(tmp_path / "b" / "set.json", [{"structure": STRUCTURE, "material_id": "mp-1"}] * 2 + [STRUCTURE, {}]),
    ]
    items = list(read_files(files))
    assert [item.id for item in items] == [
        *("a/set:1", "a/set:2", "mp-1"),
        *("mp-1#2", "mp-1#3", "b/set:3", "b/set:4"),
    ]
    assert isinstance(items[-1], Rejected)


def test_a_suffix_that_is_an_id_itself(tmp_path):
    documents = [{"structure": STRUCTURE, "id": name} for name in ("x", "x#2", "x", "x")]
    (file,) = [write(tmp_path / "a.json", documents)]
    ids = [item.id for item in read_files([file])]
    assert ids == ["x", "x#2", "x#3", "x#4"]


def test_one_file_given_twice(tmp_path):
    file = write(tmp_path / "a.vasp", POSCAR)
    again = tmp_path / ".." / tmp_path.name / "a.vasp"
    ids = [item.id for item in read_files([file, again])]
    assert len(set(ids)) == 2

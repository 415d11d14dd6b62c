# SPDX-License-Identifier: MIT
"""The error for a file that cannot be read says why; a bad crystal in a good file is only left out."""

import gzip
import json
import os
import re

import numpy as np
import pytest
from crystal_examples import ONE_OF_EACH_SYSTEM, to_pymatgen
from pymatgen.core import Structure
from pymatgen.io.cif import CifWriter

from dtnn_fast.crystals.checks import check_crystal
from dtnn_fast.crystals.crystal import Rejected
from dtnn_fast.errors import BadCrystalError, BadFileError
from dtnn_fast.formats.reading import read_crystals

CRYSTAL = ONE_OF_EACH_SYSTEM[2]  # orthorhombic PtO2, six atoms
CIF = str(CifWriter(to_pymatgen(CRYSTAL)))
JSON = to_pymatgen(CRYSTAL).to_json()
ROW = json.dumps(
    {"id": "mp-1", "lattice_angstrom": np.eye(3).tolist(), "atomic_numbers": [8], "frac_coords": [[0, 0, 0]]}
)
POSCAR = "comment\n4.0\n1 0 0\n0 1 0\n0 0 1\nNa Cl\n1 1\nDirect\n0 0 0\n.5 .5 .5\n"
EXTXYZ = '2\nLattice="4 0 0 0 4 0 0 0 4" pbc="T T T"\nNa 0 0 0\nCl 2 2 2\n'


def expect_bad_file(path, content, message):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadFileError) as caught:
        read_crystals(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert re.search(message, str(caught.value)), str(caught.value)


def expect_rejected(path, content, message):
    path.write_text(content)
    (only,) = read_crystals(path)
    assert isinstance(only, Rejected), only
    assert str(path) in only.source
    assert re.search(message, only.reason), only.reason


ALL_NAMES = ["a.cif", "a.jsonl", "a.json", "a.xyz", "POSCAR"]


@pytest.mark.parametrize("name", ALL_NAMES)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\n \n", "the file is empty"),
        (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
        (b"PK\x03\x04junk", "a zip archive"),
        (b"junk\0junk", "not a text file"),
        (gzip.compress(CIF.encode(), mtime=0), "its name must end in .gz"),
        (b"An essay about crystals.\n\nIt has several lines.\n1\n2\n3\n4\n5\n", ""),
    ],
)
def test_files_that_are_not_structures(tmp_path, name, content, message):
    expect_bad_file(tmp_path / name, content, message)


@pytest.mark.parametrize("name", [f"{name}.gz" for name in ALL_NAMES])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(CIF.encode(), mtime=0)[:-20], "truncated: its gzip data ends too early"),
        (gzip.compress(CIF.encode(), mtime=0)[:5], "truncated: its gzip data ends too early"),
        (gzip.compress(CIF.encode(), mtime=0)[:30] + b"junk" * 50, "its gzip data is damaged"),
        (gzip.compress(b"", mtime=0), "the file is empty"),
        (CIF.encode(), "not compressed by gzip"),
    ],
)
def test_bad_gzip(tmp_path, name, content, message):
    expect_bad_file(tmp_path / name, content, message)


CONTENTS = {
    "CIF": CIF,
    "POSCAR": POSCAR,
    "extended XYZ": EXTXYZ,
    "JSON": JSON,
    "JSON lines": f"{ROW}\n{ROW}\n",
}
NAMES = {
    "CIF": "a.cif",
    "POSCAR": "a.vasp",
    "extended XYZ": "a.xyz",
    "JSON": "a.json",
    "JSON lines": "a.jsonl",
}


@pytest.mark.parametrize("named", NAMES)
@pytest.mark.parametrize("content", CONTENTS)
def test_file_of_another_format(tmp_path, named, content):
    # A structure on a single line is a line of JSON lines too.
    if named == content or (content, named) == ("JSON", "JSON lines"):
        (tmp_path / NAMES[named]).write_text(CONTENTS[content])
        assert not any(isinstance(item, Rejected) for item in read_crystals(tmp_path / NAMES[named]))
    else:
        expected = content
        expect_bad_file(tmp_path / NAMES[named], CONTENTS[content], f"looks like {expected}")


def test_missing_folder_and_unknown(tmp_path):
    for path, message in [
        (tmp_path / "a.cif", "there is no such file"),
        (tmp_path, "is a folder"),
        (tmp_path / "a.docx", "unknown file format: expected .jsonl, .cif"),
    ]:
        with pytest.raises(BadFileError, match=message) as caught:
            read_crystals(str(path))
        assert str(path) in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_pipe_and_device_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.cif")
    (tmp_path / "endless.cif").symlink_to("/dev/zero")
    for name in ("pipe.cif", "endless.cif"):
        with pytest.raises(BadFileError, match="is a pipe or a device"):
            read_crystals(tmp_path / name)


def test_json_document_named_jsonl(tmp_path):
    expect_bad_file(tmp_path / "a.jsonl", json.dumps(json.loads(JSON), indent=1), "looks like one JSON document")


def test_truncated_cif(tmp_path):
    """A CIF file that is cut after any line is never read as a smaller crystal."""
    lines = CIF.splitlines()
    for end in range(1, len(lines)):
        path = tmp_path / "a.cif"
        path.write_text("\n".join(lines[:end]))
        try:
            (only,) = read_crystals(path)
        except BadFileError as error:
            message = str(error)
        else:
            assert isinstance(only, Rejected)
            message = f"{only.source}: {only.reason}"
        assert message.startswith(f"{path}: ")
        assert "truncated" in message or end < lines.index("data_PtO2") + 5


@pytest.mark.parametrize("content", [POSCAR, EXTXYZ], ids=["POSCAR", "extxyz"])
def test_truncated_lines(tmp_path, content):
    lines = content.splitlines()
    name = "a.vasp" if content == POSCAR else "a.xyz"
    for end in range(1, len(lines)):
        expect_bad_file(tmp_path / name, "\n".join(lines[:end]), "truncated")


def test_truncated_json(tmp_path):
    for end in range(1, len(JSON), 97):
        expect_bad_file(tmp_path / "a.json", JSON[:end], "truncated")


def test_truncated_jsonl(tmp_path):
    for end in range(len(ROW) + 2, 2 * len(ROW), 13):
        expect_bad_file(tmp_path / "a.jsonl", f"{ROW}\n{ROW}"[:end], "truncated: line 2 breaks off")


def test_bad_jsonl_lines(tmp_path):
    row = json.loads(ROW)
    bad = {
        "{": "not valid JSON",
        "[1, 2]": "expected a JSON object, got list",
        "{}": "missing atomic_numbers, lattice_angstrom, frac_coords",
        json.dumps(row | {"atomic_numbers": [8.5]}): "expected `atomic_numbers`",
        json.dumps(row | {"frac_coords": [[0, 0]]}): r"shape \[1, 3\]",
        json.dumps(row | {"frac_coords": [[0, 0, "z"]]}): "expected `positions`",
        json.dumps(row | {"lattice_angstrom": [1, 2, 3]}): r"`cell` of shape \[3, 3\]",
        json.dumps(row | {"eps_total": [1, 2, 3]}): r"total tensor of shape \[3, 3\], got \[3\]",
        json.dumps(row | {"eps_total": [[float("nan")] * 3] * 3}): "total tensor has elements that are NaN",
        json.dumps(row | {"eps_electronic": "three"}): "the electronic tensor as 3x3 numbers",
    }
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join([ROW, *bad, "", ROW]) + "\n")
    first, *rejected, last = read_crystals(path)
    assert first.id == last.id == "mp-1"
    assert first.source == f"{path}:1"
    for line, (item, message) in enumerate(zip(rejected, bad.values(), strict=True), start=2):
        assert isinstance(item, Rejected)
        assert item.source == f"{path}:{line}"
        assert re.search(message, item.reason), item.reason
        assert str(path) not in item.reason


def change_last_atom(column, word):
    lines = CIF.splitlines()
    words = lines[-1].split()
    words[column] = word
    return "\n".join([*lines[:-1], " ".join(words)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (change_last_atom(6, "0.5"), r"partial occupancy: O5 has occupancy 0\.5; order the structure first"),
        (change_last_atom(3, "nan"), "_atom_site_fract_x of O5 is 'nan', which is not a number"),
        (change_last_atom(3, "inf"), "_atom_site_fract_x of O5 is 'inf', which is not a number"),
        (change_last_atom(3, "?"), "_atom_site_fract_x of O5 is not given"),
        (change_last_atom(0, "Xx"), "the type symbol 'Xx' of O5 names no element"),
        (f"{CIF}\n{CIF.splitlines()[-1]}", r"too many atoms: atoms 5 \(O\) and 6 \(O\) are 0 Angstrom apart"),
        (CIF.replace("_cell_length_c", "_cell_of_length"), "_cell_length_c is missing; is the file truncated"),
    ],
)
def test_bad_cif(tmp_path, content, message):
    expect_rejected(tmp_path / "a.cif", content, message)


def test_bad_block_among_good_ones(tmp_path):
    path = tmp_path / "a.cif"
    path.write_text("\n".join([CIF, change_last_atom(6, "0.5").replace("data_PtO2", "data_half"), CIF]))
    good, bad, last = read_crystals(path)
    assert good.num_atoms == last.num_atoms == 6
    assert (bad.id, bad.source) == ("a:half", f"{path} (data_half)")


def test_disordered_json(tmp_path):
    disordered = Structure(np.eye(3) * 4, [{"Fe": 0.5, "Co": 0.5}, {"O": 1}], [[0, 0, 0], [0.5] * 3])
    path = tmp_path / "a.json"
    path.write_text(json.dumps([disordered.as_dict(), json.loads(JSON), {"@class": "Molecule", "sites": []}, {}, 3]))
    partial, good, molecule, empty, number = read_crystals(path)
    assert re.search(r"partial occupancy at site 0 \(.*Co: 0.5.*\): order the structure first", partial.reason)
    assert good.num_atoms == 6
    assert "Molecule has no lattice" in molecule.reason
    assert empty.reason == number.reason == "no structure in this document"


def test_json_without_structures(tmp_path):
    for content in ("{}", "[]", '{"a": 1}', "[[]]", '{"structure": 3}'):
        expect_bad_file(tmp_path / "a.json", content, "no structure in it")
    expect_bad_file(tmp_path / "a.json", '{"a": nonsense}', "not valid JSON")
    broken = JSON.replace('"abc"', '"xyz_"', 1)
    expect_rejected(tmp_path / "a.json", broken, "not a pymatgen structure: KeyError: 'abc'")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("1 1\n", "1 x\n"), "names 2 elements, line 7 has 1 numbers"),
        (("1 1\n", "x 1\n"), "line 7: expected the numbers of atoms, got 'x 1'"),
        (("1 1\n", "1\n"), "names 2 elements, line 7 has 1 numbers"),
        (("Na Cl", "Na Q"), "'Q' is not the symbol of an element"),
        (("Na Cl\n", ""), "no element symbols"),
        (("Direct", "Sideways"), "line 9: expected Direct or Cartesian"),
        ((".5 .5 .5", ".5 .5"), "line 10: expected a position, got '.5 .5'"),
        (("0 1 0\n", "0 1\n"), "line 4: expected a lattice vector, got '0 1'"),
    ],
)
def test_bad_poscar(tmp_path, change, message):
    content = POSCAR.replace(*change)
    assert content != POSCAR
    expect_bad_file(tmp_path / "POSCAR", content, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('Lattice="4 0 0 0 4 0 0 0 4" ', ""), "this is a molecule, not a crystal"),
        (("4 0 0 0 4 0 0 0 4", "4 4 4"), "expected 9 numbers in Lattice, got 3"),
        (("Na 0 0 0", "Na 0 0"), "line 7: expected an atom, got 'Na 0 0'"),
        (("Na 0", "Qq 0"), "'Qq' is not the symbol of an element"),
        (('pbc="T T T"', "Properties=forces:R:3"), "expected species"),
        (('pbc="T T T"', 'pbc="T"'), "expected pbc to be three"),
    ],
)
def test_bad_extxyz_frame(tmp_path, change, message):
    content = EXTXYZ.replace(*change)
    assert content != EXTXYZ
    path = tmp_path / "a.xyz"
    path.write_text(EXTXYZ + content + EXTXYZ)
    first, bad, last = read_crystals(path)
    assert first.num_atoms == last.num_atoms == 2
    assert bad.source == f"{path}:5"
    assert re.search(message, bad.reason), bad.reason


def test_wrong_number_of_atoms_in_a_frame(tmp_path):
    expect_bad_file(
        tmp_path / "a.xyz", EXTXYZ.replace("2\n", "1\n", 1), "line 4: expected the number of atoms of frame 2"
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("POSCAR", POSCAR.replace(".5 .5 .5", "nan .5 .5")),
        ("a.xyz", EXTXYZ.replace("Cl 2", "Cl nan")),
        ("a.jsonl", ROW.replace("[[0, 0, 0]]", "[[NaN, 0, 0]]")),
        ("a.json", re.sub(r'"abc": ?\[[^,]*', '"abc": [NaN', JSON, count=1)),
    ],
)
def test_nan_is_reported_by_check_crystal(tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content)
    (crystal,) = read_crystals(path)
    with pytest.raises(BadCrystalError, match="NaN or infinite") as caught:
        check_crystal(crystal)
    assert str(path) in str(caught.value)


def test_pickled_file_is_refused(tmp_path):
    expect_bad_file(tmp_path / "a.json", b"\x80\x04\x95\x00.", "not")

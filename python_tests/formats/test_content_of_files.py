# SPDX-License-Identifier: MIT
"""The format of a file is told from its content by the grammar; encodings with a byte order mark are read."""

import contextlib
import json
import time

import pytest
from test_json_structures import STRUCTURE

from dtnn_fast.errors import BadFileError
from dtnn_fast.formats.find_files import expand_paths
from dtnn_fast.formats.reading import read_crystals
from dtnn_fast.formats.text_files import parse_number, split_lines

POSCAR = "{comment}\n4.2\n1 0 0\n0 1 0\n0 0 1\nMg O\n1 1\nDirect\n0 0 0\n.5 .5 .5\n"
EXTXYZ = '2\n{comment}Lattice="4.2 0 0 0 4.2 0 0 0 4.2"\nMg 0 0 0\nO 2.1 2.1 2.1\n'
CIF = """# {comment}
data_MgO
_cell_length_a 4.2
_cell_length_b 4.2
_cell_length_c 4.2
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_symmetry_equiv_pos_as_xyz
'x, y, z'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Mg1 Mg 0 0 0
O1 O 0.5 0.5 0.5
"""
TEXTS = {"a.vasp": POSCAR, "a.xyz": EXTXYZ, "a.cif": CIF, "a.json": json.dumps(STRUCTURE, indent=1)}
# What each format allows to stand at its start.
COMMENTS = ["{", "[1, 2]", "data_MgO", "_cell_length_a 4.2", "2", '{"a": 1}', "", "// JSON", "Lattice="]


@pytest.mark.parametrize("comment", COMMENTS)
@pytest.mark.parametrize("name", ["a.vasp", "a.cif"])
def test_a_comment_does_not_make_another_format(tmp_path, name, comment):
    (tmp_path / name).write_text(TEXTS[name].replace("{comment}", comment))
    (crystal,) = read_crystals(tmp_path / name)
    assert crystal.formula == "MgO"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", TEXTS)
def test_encodings_with_a_byte_order_mark(tmp_path, name, encoding):
    text = TEXTS[name].replace("{comment}", "" if name == "a.xyz" else "größe Å")
    mark = "" if encoding in ("utf-8-sig", "utf-16", "utf-32") else "\ufeff"
    (tmp_path / name).write_bytes((mark + text).encode(encoding))
    (crystal,) = read_crystals(tmp_path / name)
    assert crystal.formula == "MgO"


def test_damaged_utf_16(tmp_path):
    (tmp_path / "a.cif").write_bytes(CIF.encode("utf-16")[:-1])
    with pytest.raises(BadFileError, match="begins like UTF-16, but it is damaged"):
        read_crystals(tmp_path / "a.cif")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.cif", POSCAR.replace("{comment}", "{"), "named as CIF, but it looks like POSCAR"),
        ("a.json", POSCAR.replace("{comment}", "data_x"), "named as JSON, but it looks like POSCAR"),
        ("a.cif", "# remark\n" + EXTXYZ.replace("{comment}", ""), r"not valid CIF: line 2"),
        ("a.vasp", EXTXYZ.replace("{comment}Lattice", "lattice"), "looks like extended XYZ"),
        ("a.vasp", "// made by hand\n" + TEXTS["a.json"], "looks like JSON"),
        ("a.vasp", "\n\n" + TEXTS["a.json"], "looks like JSON"),
        ("a.xyz", CIF, "looks like CIF"),
        ("a.vasp", POSCAR.replace("{comment}", "{").replace("1 0 0", "1 0"), "line 3: expected a lattice vector"),
    ],
)
def test_another_format(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(BadFileError, match=message):
        read_crystals(tmp_path / name)


def test_a_file_of_unknown_ending_is_refused_with_a_hint(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text(EXTXYZ.replace("{comment}", ""))
    for read in (read_crystals, lambda path: expand_paths([path])):
        with pytest.raises(BadFileError, match=r"unknown file format.*looks like extended XYZ, .* end in \.extxyz"):
            read(path)


def test_lines_end_in_newlines_and_returns_only():
    assert split_lines("a\nb\r\nc\rd\x0be\x0cf\x1cg\x85h\u2028i\n") == ["a", "b", "c", "d\x0be\x0cf\x1cg\x85h\u2028i"]
    assert split_lines("\na") == ["", "a"]
    assert split_lines("a\nb\nc", maxsplit=1) == ["a", "b\nc"]


@pytest.mark.parametrize("name", ["a.vasp", "a.xyz", "a.json", "a.jsonl"])
@pytest.mark.parametrize("filler", ["\n", " ", "1", "1 ", "-", "[", "{", '"', "a=", "data_", "#\n", "// \n", "Mg 1\n"])
def test_long_files_take_linear_time(tmp_path, name, filler):
    long = (filler * 50_000)[:100_000]
    for text in (f"{long}x", TEXTS.get(name, "{}").replace("{comment}", "") + long):
        (tmp_path / name).write_text(text)
        start = time.perf_counter()
        with contextlib.suppress(BadFileError):
            read_crystals(tmp_path / name)
        assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    ("word", "number"),
    [("1", 1), ("-.5", -0.5), ("+1.", 1), ("1.5d-1", 0.15), ("2E3", 2000), ("-Infinity", float("-inf"))],
)
def test_numbers_of_fortran(word, number):
    assert parse_number(word) == number


@pytest.mark.parametrize("word", ["", ".", "-", "1_0", "1,5", "\u0661", "0x1", "1e", "infinite", "1.2.3", "1-2"])
def test_words_that_are_no_numbers(word):
    assert parse_number(word) is None

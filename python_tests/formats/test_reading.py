# SPDX-License-Identifier: MIT
"""Every file format returns the crystal that was written by pymatgen, ASE or by hand."""

import gzip
import json

import numpy as np
import pytest
from ase.io import write as ase_write
from crystal_examples import (
    ONE_OF_EACH_SYSTEM,
    SYSTEM_IDS,
    assert_same_frame,
    assert_same_up_to_rotation,
    to_ase,
    to_pymatgen,
)
from pymatgen.io.cif import CifWriter
from pymatgen.io.vasp import Poscar

from dtnn_fast.crystals.crystal import Crystal, Rejected
from dtnn_fast.errors import BadFileError
from dtnn_fast.formats.find_files import expand_paths
from dtnn_fast.formats.reading import file_format_of, iter_crystals_of_bytes, read_crystals

all_systems = pytest.mark.parametrize("crystal", ONE_OF_EACH_SYSTEM, ids=SYSTEM_IDS)


def row_of(crystal, **more_keys):
    fractional = crystal.positions @ np.linalg.inv(crystal.cell)
    row = {
        "id": crystal.id,
        "lattice_angstrom": crystal.cell.tolist(),
        "atomic_numbers": crystal.atomic_numbers.tolist(),
        "frac_coords": fractional.tolist(),
    }
    return row | more_keys


def write(path, text):
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


@all_systems
@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_jsonl(tmp_path, crystal, suffix):
    tensors = {"eps_electronic": [[3, 0.2, 0], [0, 3, 0], [0, 0, 4]], "eps_total": [[9, 0, 0], [0.4, 9, 0], [0, 0, 7]]}
    row = row_of(crystal, band_gap_ev=1.5, **tensors)
    (read,) = read_crystals(write(tmp_path / f"a{suffix}", json.dumps(row) + "\n"))
    assert_same_frame(read, crystal, 1e-12)
    assert read.id == crystal.id
    assert read.info == {"band_gap_ev": 1.5}
    assert read.targets["electronic"].tolist() == [[3, 0.1, 0], [0.1, 3, 0], [0, 0, 4]]
    assert read.targets["total"].tolist() == [[9, 0.2, 0], [0.2, 9, 0], [0, 0, 7]]
    assert read.targets["ionic"].tolist() == [[6, 0.1, 0], [0.1, 6, 0], [0, 0, 3]]


@all_systems
@pytest.mark.parametrize("symmetric", [False, True])
def test_cif_of_pymatgen(tmp_path, crystal, symmetric):
    structure = to_pymatgen(crystal)
    text = str(CifWriter(structure, symprec=0.01 if symmetric else None, significant_figures=10))
    (read,) = read_crystals(write(tmp_path / "crystal.cif", text))
    assert read.id == "crystal"
    if symmetric:  # the writer then takes the conventional cell
        assert read.num_atoms % crystal.num_atoms == 0
        assert read.formula == crystal.formula
        volumes = [abs(np.linalg.det(c.cell)) / c.num_atoms for c in (read, crystal)]
        assert volumes[0] == pytest.approx(volumes[1], rel=1e-3)
    else:
        assert_same_up_to_rotation(read, crystal, 2e-3)


@all_systems
def test_cif_of_ase(tmp_path, crystal):
    path = tmp_path / "crystal.cif"
    to_ase(crystal).write(path)
    assert_same_up_to_rotation(read_crystals(path)[0], crystal, 2e-3)


@all_systems
@pytest.mark.parametrize("direct", [False, True])
def test_poscar_of_ase(tmp_path, crystal, direct):
    path = tmp_path / "mp-1" / "POSCAR"
    path.parent.mkdir()
    to_ase(crystal).write(path, format="vasp", direct=direct)
    (read,) = read_crystals(path)
    assert_same_frame(read, crystal, 1e-10)
    assert read.id == "mp-1/POSCAR"


@all_systems
def test_poscar_of_pymatgen(tmp_path, crystal):
    poscar = Poscar(to_pymatgen(crystal), selective_dynamics=[[True, False, True]] * crystal.num_atoms)
    path = write(tmp_path / "crystal.vasp", poscar.get_str(significant_figures=14))
    assert_same_frame(read_crystals(path)[0], crystal, 1e-10)


@all_systems
@pytest.mark.parametrize("name", ["a.extxyz", "a.xyz", "a.extxyz.gz"])
def test_extxyz_of_ase(tmp_path, crystal, name):
    atoms = to_ase(crystal)
    atoms.arrays["forces"] = np.ones((len(atoms), 3))
    atoms.info.update(energy=-1.5, remark='several "words" = more')
    plain = tmp_path / "plain.xyz"
    atoms.write(plain, format="extxyz")
    (read,) = read_crystals(write(tmp_path / name, plain.read_text()))
    assert_same_frame(read, crystal, 1e-7)
    assert read.id == "a"


def test_extxyz_of_several_frames(tmp_path):
    frames = [to_ase(crystal) for crystal in ONE_OF_EACH_SYSTEM]
    frames[2].info["material_id"] = "mp-7"
    path = tmp_path / "many.extxyz"
    ase_write(path, frames, format="extxyz")
    read = read_crystals(path)
    assert [c.id for c in read[:4]] == ["many:1", "many:2", "mp-7", "many:4"]
    for actual, expected in zip(read, ONE_OF_EACH_SYSTEM, strict=True):
        assert_same_frame(actual, expected, 1e-7)


@all_systems
def test_pymatgen_json(tmp_path, crystal):
    structure = to_pymatgen(crystal).as_dict()
    documents = {
        "structure": (structure, ["a"]),
        "list": ([structure, structure], ["a:1", "a:2"]),
        "document": ({"structure": structure, "material_id": "mp-1"}, ["mp-1"]),
        "documents": ([{"structure": structure, "material_id": "mp-1"}], ["mp-1"]),
        "response": ({"data": [{"structure": structure, "material_id": "mp-1"}], "meta": {}}, ["mp-1"]),
        "by id": ({"mp-1": structure, "mp-2": structure}, ["mp-1", "mp-2"]),
    }
    for document, names in documents.values():
        read = read_crystals(write(tmp_path / "a.json.gz", json.dumps(document)))
        assert [c.id for c in read] == names
        for actual in read:
            assert_same_frame(actual, crystal, 1e-12)


def test_pymatgen_json_with_oxidation_states(tmp_path):
    crystal = ONE_OF_EACH_SYSTEM[-1]
    structure = to_pymatgen(crystal).add_oxidation_state_by_guess()
    (read,) = read_crystals(write(tmp_path / "a.json", structure.to_json()))
    assert_same_frame(read, crystal, 1e-12)


POSCAR = """comment
{scale}
1 0 0
0 1 0
0 0 2
{symbols}
1 2
{mode}
0 0 0 {behind[0]}
.5 .5 .5 {behind[1]}
0.25 .5d0 0 {behind[1]}
"""


def poscar(scale="4.0", symbols="Na Cl", mode="Direct", behind=("", "")):
    return POSCAR.format(scale=scale, symbols=symbols, mode=mode, behind=behind).replace("\n\n", "\n")


@pytest.mark.parametrize(
    "text",
    [
        poscar(),
        poscar(scale="-128.0"),
        poscar(scale="4 4 4"),
        poscar(symbols="Na_pv Cl/0a1b2c", mode="Selective dynamics\ndirect", behind=("T T F", "F F F")),
        poscar(symbols="", behind=("Na", "Cl")),
        poscar(symbols="").replace("comment", "Na Cl"),
        poscar(mode="Cartesian").replace(".5 .5 .5", ".5 .5 1"),
        poscar().replace("1 2\n", "1 2 ! numbers\n") + "\n0 0 0\n",
    ],
)
def test_poscar_variants(tmp_path, text):
    (read,) = read_crystals(write(tmp_path / "CONTCAR", text))
    expected = Crystal.make("x", [11, 17, 17], [[0, 0, 0], [2, 2, 4], [1, 2, 0]], np.diag([4.0, 4.0, 8.0]))
    assert_same_frame(read, expected, 1e-12)


def test_cif_of_several_blocks(tmp_path):
    texts = [str(CifWriter(to_pymatgen(crystal))) for crystal in ONE_OF_EACH_SYSTEM[-2:]]
    journal = "data_global\n_publ_section_title\n;\ndata_not_a_block _atom_site_\n;\n"
    read = read_crystals(write(tmp_path / "two.cif", journal + "\n".join(texts)))
    assert len(read) == 2
    assert read[0].id.startswith("two:")
    for actual, expected in zip(read, ONE_OF_EACH_SYSTEM[-2:], strict=True):
        assert_same_up_to_rotation(actual, expected, 2e-3)


@pytest.mark.parametrize(
    ("name", "file_format"),
    [
        ("a.cif", "cif"),
        ("A.CIF.gz", "cif"),
        ("POSCAR", "poscar"),
        ("CONTCAR.gz", "poscar"),
        ("POSCAR_relaxed", "poscar"),
        ("POSCAR.mp-149", "poscar"),
        ("POSCARS", None),
        ("x.vasp", "poscar"),
        ("a.json", "json"),
        ("a.jsonl.gz", "jsonl"),
        ("a.xyz", "extxyz"),
        ("cif", None),
        ("a.txt", None),
        ("a.gz", None),
    ],
)
def test_file_format_of(tmp_path, name, file_format):
    assert file_format_of(tmp_path / name) == file_format


def test_expand_paths(tmp_path):
    for name in ["b/POSCAR", "b/notes.txt", "a/2.cif", "a/1.cif", "z.jsonl"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    found = expand_paths([tmp_path / "z.jsonl", tmp_path])
    assert [str(p.relative_to(tmp_path)) for p in found.files] == ["z.jsonl", "a/1.cif", "a/2.cif", "b/POSCAR"]
    assert found.skipped == [tmp_path / "b" / "notes.txt"]
    with pytest.raises(BadFileError, match=r"notes.txt: unknown file format: expected .jsonl, "):
        expand_paths([tmp_path / "b" / "notes.txt"])
    with pytest.raises(BadFileError, match=r"nowhere: there is no such file or folder"):
        expand_paths([tmp_path / "nowhere"])


def test_one_bad_crystal_among_several(tmp_path):
    good = ONE_OF_EACH_SYSTEM[0]
    bad_row = row_of(good)
    del bad_row["frac_coords"]
    rows = [row_of(good), bad_row, row_of(good)]
    first, bad, last = read_crystals(write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows))))
    assert first.id == last.id == good.id
    assert isinstance(first, Crystal)
    assert isinstance(last, Crystal)
    assert bad == Rejected(good.id, f"{tmp_path}/a.jsonl:2", "missing frac_coords")


@pytest.mark.parametrize(
    ("name", "file_format", "crystal_id"),
    [
        ("NaCl.vasp", None, "NaCl"),
        ("POSCAR", None, "POSCAR"),
        ("CONTCAR.relaxed", None, "CONTCAR.relaxed"),
        ("/etc/passwd", None, "passwd"),
        ("..", None, "crystal"),
        ("", None, "crystal"),
        ("C:\\folder\\a.txt", "poscar", "a.txt"),
    ],
)
def test_crystals_of_bytes_are_named_by_the_last_part_of_their_name(name, file_format, crystal_id):
    text = "NaCl\n1.0\n0 2.8 2.8\n2.8 0 2.8\n2.8 2.8 0\nNa Cl\n1 1\nDirect\n0 0 0\n0.5 0.5 0.5\n"
    for encoding in ("utf-8", "utf-16", "utf-8-sig"):
        (crystal,) = iter_crystals_of_bytes(name, text.encode(encoding), file_format)
        assert crystal.id == crystal_id
        assert crystal.formula == "NaCl"


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.cif.gz", b"data_x", "unpack it first"),
        ("a.zip", b"PK\x03\x04", "unpack it first"),
        ("a.npz", b"PK\x03\x04", "unknown file format"),
        ("a.db", b"SQLite format 3", "unknown file format"),
        ("a.abc", b"hello", "unknown file format: expected a name that ends in .jsonl, .cif"),
        ("pasted", b"hello", "pasted: unknown file format: the text looks like none of JSON lines, CIF, POSCAR"),
        ("a", b"", "the file is empty"),
        ("a.cif", gzip.compress(b"data_x", mtime=0), "compressed by gzip"),
        ("a.cif", b"{}", "looks like JSON"),
    ],
)
def test_bytes_that_are_not_read(name, data, said):
    with pytest.raises(BadFileError, match=said):
        list(iter_crystals_of_bytes(name, data))

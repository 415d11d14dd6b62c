# SPDX-License-Identifier: MIT
"""CIF: symmetry as it is stated, and refusals that name what was not understood."""

import re

import numpy as np
import pytest
from crystal_examples import ONE_OF_EACH_SYSTEM, SYSTEM_IDS, to_pymatgen
from pymatgen.core import Lattice
from pymatgen.io.cif import CifWriter

from dtnn_fast.crystals.crystal import Rejected
from dtnn_fast.errors import BadFileError
from dtnn_fast.formats.reading import read_crystals


def cif(symmetry, sites, cell=(4.212, 4.212, 4.212, 90, 90, 90), formula=None, units=None, name="x", columns=()):
    """A CIF of lines of symmetry and lines of sites: label, type symbol, x, y, z, and further columns."""
    tags = ["length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"]
    lines = [f"data_{name}", *(f"_cell_{tag} {value}" for tag, value in zip(tags, cell, strict=True))]
    lines += [f"_chemical_formula_sum '{formula}'"] if formula else []
    lines += [f"_cell_formula_units_Z {units}"] if units else []
    lines += [symmetry] if isinstance(symmetry, str) else symmetry
    lines += ["loop_", "_atom_site_label", "_atom_site_type_symbol"]
    lines += [*(f"_atom_site_fract_{axis}" for axis in "xyz"), *columns, *sites]
    return "\n".join(lines) + "\n"


def symbol(text):
    return f"_symmetry_space_group_name_H-M '{text}'"


def operations(*triplets):
    return ["loop_", "_symmetry_equiv_pos_as_xyz", *(f"'{triplet}'" for triplet in triplets)]


ROCK_SALT = ["Mg1 Mg 0 0 0", "O1 O 0.5 0.5 0.5"]
SILICON = (5.431, 5.431, 5.431, 90, 90, 90)
CORUNDUM = (4.7602, 4.7602, 12.9933, 90, 90, 120)
BADDELEYITE = (5.117, 5.175, 5.292, 90, 99.22, 90)
HAFNIA = ["Hf Hf .276 .040 .208", "O1 O .074 .332 .347", "O2 O .449 .758 .480"]
ANATASE = (3.7842, 3.7842, 9.5146, 90, 90, 90)
ZIRCONIA = (3.5960, 3.5960, 5.1840, 90, 90, 90)


def read(tmp_path, text):
    path = tmp_path / "a.cif"
    path.write_text(text)
    return read_crystals(path)


def read_one(tmp_path, text):
    (crystal,) = read(tmp_path, text)
    assert not isinstance(crystal, Rejected), crystal.reason
    return crystal


@pytest.mark.parametrize(
    ("text", "formula", "num_atoms"),
    [
        (cif(symbol("F m -3 m"), ROCK_SALT), "MgO", 8),
        (cif(symbol("Fm-3m"), ROCK_SALT), "MgO", 8),
        (cif(symbol("Fm3m"), ROCK_SALT), "MgO", 8),
        (cif(symbol("F 4/m -3 2/m"), ROCK_SALT), "MgO", 8),
        (cif("_space_group_name_Hall '-F 4 2 3'", ROCK_SALT), "MgO", 8),
        (cif("_space_group_name_Hall '-f_4_2_3'", ROCK_SALT), "MgO", 8),
        (cif("_space_group_IT_number 225", ROCK_SALT), "MgO", 8),
        (cif("_space_group.IT_number 225", ROCK_SALT), "MgO", 8),
        (cif("_SYMMETRY_INT_TABLES_NUMBER 225", ROCK_SALT), "MgO", 8),
        (cif(operations("x,y,z", "x,1/2+y,1/2+z", "X+.5, Y, Z+.5", "x+1/2,y+1/2,z"), ROCK_SALT), "MgO", 8),
        (cif(symbol("F d -3 m :1"), ["Si Si 0 0 0"], SILICON), "Si", 8),
        (cif(symbol("F d -3 m S"), ["Si Si 0 0 0"], SILICON), "Si", 8),
        (cif(symbol("F d -3 m :2"), ["Si Si 0.125 0.125 0.125"], SILICON), "Si", 8),
        (cif(symbol("F d -3 m Z"), ["Si Si 0.125 0.125 0.125"], SILICON), "Si", 8),
        (cif(symbol("R -3 c :H"), ["Al Al 0 0 0.35216", "O O 0.30624 0 0.25"], CORUNDUM), "Al2O3", 30),
        (cif(symbol("R -3 c H"), ["Al Al 0 0 0.35216", "O O 0.30624 0 0.25"], CORUNDUM), "Al2O3", 30),
        (cif(symbol("R -3 c"), ["Al Al 0 0 0.35216", "O O 0.30624 0 0.25"], CORUNDUM), "Al2O3", 30),
        (cif(symbol("P 21/c"), HAFNIA, BADDELEYITE), "HfO2", 12),
        (cif(symbol("P 1 21/c 1"), HAFNIA, BADDELEYITE), "HfO2", 12),
        (cif(symbol("P 2_1/c"), HAFNIA, BADDELEYITE), "HfO2", 12),
        (cif(symbol("P2(1)/c"), HAFNIA, BADDELEYITE), "HfO2", 12),
        # The origin is not stated, and the atoms fit one only.
        (cif(symbol("I 41/a m d"), ["Ti1 Ti 0 0.75 0.125", "O1 O 0 0.75 0.3331"], ANATASE, "Ti O2", 4), "TiO2", 12),
        (cif(symbol("P 42/n m c"), ["Zr Zr 0.75 0.25 0.75", "O O 0.25 0.25 0.4547"], ZIRCONIA), "ZrO2", 6),
        # A statement that is not understood gives way to the others.
        (cif([symbol("unknown"), "_space_group_IT_number 225"], ROCK_SALT), "MgO", 8),
        (cif([symbol("F m -3 q"), "_space_group_name_Hall '-F 4 2 3'"], ROCK_SALT), "MgO", 8),
        (cif([symbol("F m -3 m"), "_space_group_name_Hall 'nonsense'"], ROCK_SALT), "MgO", 8),
        (
            cif([symbol("?x"), "_space_group_IT_number 227"], ["Si Si 0.125 0.125 0.125"], SILICON, "Si", units=8),
            "Si",
            8,
        ),
        # Nothing is stated: all atoms are listed.
        (cif([], ROCK_SALT, (3, 3, 3, 90, 90, 90)), "MgO", 2),
        (cif("_symmetry_cell_setting triclinic", ROCK_SALT, (3, 3, 3, 90, 90, 90)), "MgO", 2),
    ],
)
def test_symmetry_as_stated(tmp_path, text, formula, num_atoms):
    crystal = read_one(tmp_path, text)
    assert (crystal.formula, crystal.num_atoms) == (formula, num_atoms)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (cif(symbol("F m -3 q"), ROCK_SALT), "'F m -3 q' is not understood; no symmetry operations are listed"),
        (cif("_space_group_name_Hall 'nonsense'", ROCK_SALT), "the Hall symbol 'nonsense' is not understood"),
        (
            cif([symbol("F m -3 q"), "_space_group_name_Hall 'nonsense'", "_space_group_IT_number 231"], ROCK_SALT),
            "'nonsense' is not understood.*, and .*'F m -3 q' is not understood, and .*231 is outside 1 to 230; no",
        ),
        # The symbol may have named any of the settings of the number, which all keep the cell.
        (cif([symbol("P x y z"), "_space_group_IT_number 62"], ["Si Si 0.05 0.11 0.31"]), "z, number 62 has several s"),
        (cif("_space_group_IT_number 231", ROCK_SALT), "number 231 is outside 1 to 230"),
        (cif("_space_group_IT_number cubic", ROCK_SALT), "number is 'cubic', which is not an integer"),
        (cif("_space_group_crystal_system cubic", ROCK_SALT), "crystal system is cubic, but neither"),
        (cif(operations("x,y+1/2,z+1/2", "x+1/2,y,z+1/2", "x+1/2,y+1/2,z"), ROCK_SALT), "x,y,z follows from them"),
        (cif(operations("x,y,z", "-y,x,z"), ROCK_SALT), r"no group: -x,-y,z follows"),
        (cif([*operations("x,y,z"), symbol("F m -3 m")], ROCK_SALT), r"make the space group P 1 .* 'F m -3 m'"),
        (cif([*operations("x,y,z"), "_space_group_IT_number 225"], ROCK_SALT), "names number 225"),
        (cif([symbol("P 1"), "_space_group_IT_number 225"], ROCK_SALT), "names number 225"),
        (cif(operations("x,y,z", "x,y"), ROCK_SALT), "operation 'x,y' is not understood"),
        (cif(operations("x,y,z,+1"), ROCK_SALT), "operation 'x,y,z,.1' is not understood"),
        (cif(operations("x,y,z", "2x,y,z"), ROCK_SALT), "is not understood|no rotation"),
        (cif(symbol("F m -3 m"), ROCK_SALT, (4.2, 4.2, 4.4, 90, 90, 90)), "does not keep the cell"),
        (cif(symbol("P 63 m c"), ROCK_SALT, (4.2, 4.2, 4.4, 90, 90, 90)), "does not keep the cell"),
        # Without a statement of the origin both fit, and no formula decides.
        (cif(symbol("I 41/a m d"), ["Ti Ti 0 0.75 0.125", "O O 0 0.75 0.333"], ANATASE), "has several settings"),
        (cif(symbol("F d -3 m"), ["Si Si 0.05 0.11 0.31"], (30, 30, 30, 90, 90, 90)), "has several settings"),
        (cif(symbol("P 1"), ROCK_SALT, formula="Mg O", units=4), "2 atoms in the cell, .* 4 times Mg O, 8 atoms"),
        (cif(symbol("P 1"), ROCK_SALT, formula="Mg O H2"), "H atoms are missing"),
        (cif(symbol("P 1"), [*ROCK_SALT, "O2 O 0 0 0.5"], formula="Mg O"), "atoms are missing, or the file"),
        (cif(symbol("P 1"), [*ROCK_SALT, "O2 O .5 .5 .501"], formula="Mg O"), r"atoms 1 \(O\) and 2 \(O\) are 0.00421"),
    ],
)
def test_what_is_not_understood_is_named(tmp_path, text, reason):
    (rejected,) = read(tmp_path, text)
    assert isinstance(rejected, Rejected), f"read as {rejected.formula} with {rejected.num_atoms} atoms"
    assert re.search(reason, rejected.reason), rejected.reason


OCCUPANCY = ("_atom_site_occupancy",)


@pytest.mark.parametrize(
    ("sites", "columns"),
    [
        (["Mg1 Mg 0 0 0 .", "O1 O .5 .5 .5 ."], OCCUPANCY),
        (["Mg1 Mg 0 0 0 1", "O1 O .5 .5 .5 ?"], OCCUPANCY),
        (["Mg1 Mg 0 0 0 1.0000", "O1 O .5 .5 .5 0.9999"], OCCUPANCY),
        (["Mg1 Mg 0 0 0 1", "O1 O .5 .5 .5 1.00(2)"], OCCUPANCY),
        (["Mg1 Mg 0 0 0 .", "O1 O .5 .5 .5 ."], ("_atom_site_disorder_group",)),
        (["Mg1 Mg 0 0 0 d", "O1 O .5 .5 .5 calc"], ("_atom_site_calc_flag",)),
        (["Mg1 Mg2+ 0 0 0", "O1 O2- .5 .5 .5"], ()),
        (["Mg1 Mg+2 0 0 0", "O1 O-2 .5 .5 .5"], ()),
        (["Mg1 MG 0 0 0", "O1 o .5 .5 .5"], ()),
        (["Mg1 ? 0 0 0", "O1 . .5 .5 .5"], ()),
        (["Mg ? 0 0 0", "O12a ? .5 .5 .5"], ()),
        (["Mg1 Mg 0.0000(1) 0 -0", "O1 O +.5 5e-1 0.500(3)"], ()),
    ],
)
def test_sites_of_rock_salt(tmp_path, sites, columns):
    crystal = read_one(tmp_path, cif(symbol("F m -3 m"), sites, columns=columns))
    assert (crystal.formula, crystal.num_atoms) == ("MgO", 8)


@pytest.mark.parametrize(
    ("site", "columns", "reason"),
    [
        ("O1 O .5 .5 .5 0.4", OCCUPANCY, "partial occupancy: O1 has occupancy 0.4; order the structure first"),
        ("O1 O .5 .5 .5 0", OCCUPANCY, "partial occupancy: O1 has occupancy 0;"),
        ("O1 O .5 .5 .5 1.2", OCCUPANCY, "partial occupancy: O1 has occupancy 1.2"),
        ("O1 O .5 .5 .5 full", OCCUPANCY, "occupancy of O1 is 'full', which is not a number"),
        ("O1 O .5 .5 .5 2", ("_atom_site_disorder_group",), "O1 belongs to disorder group 2"),
        ("O1 O .5 .5 .5 dum", ("_atom_site_calc_flag",), "O1 is a dummy atom"),
        ("O1 O .5 .5 .5 2", ("_atom_site_attached_hydrogens",), "O1 has 2 attached hydrogen atoms"),
        ("O1 O 1/2 .5 .5", (), "_atom_site_fract_x of O1 is '1/2', which is not a number"),
        ("O1 O . .5 .5", (), "_atom_site_fract_x of O1 is not given"),
        ("O1 O .5 ? .5", (), "_atom_site_fract_y of O1 is not given"),
        ("Oh OH .5 .5 .5", (), "the type symbol 'OH' of Oh names no element"),
        ("N1 NH4 .5 .5 .5", (), "the type symbol 'NH4' of N1 names no element"),
        ("Wat ? .5 .5 .5", (), "the label 'Wat' names no element"),
        ("OH1 ? .5 .5 .5", (), "the label 'OH1' names no element"),
        ("M1 ? .5 .5 .5", (), "the label 'M1' names no element"),
        ("X1 X .5 .5 .5", (), "the type symbol 'X' of X1 names no element"),
        ("CA1 ? .5 .5 .5", (), "the label 'CA1' names no element"),
    ],
)
def test_sites_that_are_not_one_atom(tmp_path, site, columns, reason):
    other = "Mg1 Mg 0 0 0" + " ." * len(columns)
    (rejected,) = read(tmp_path, cif(symbol("F m -3 m"), [other, site], columns=columns))
    assert isinstance(rejected, Rejected)
    assert reason in rejected.reason


def test_labels_in_capitals_are_read_by_the_formula(tmp_path):
    sites = ["CA1 ? 0 0 0", "O1 ? .5 .5 .5"]
    assert read_one(tmp_path, cif(symbol("F m -3 m"), sites, formula="Ca O", units=4)).formula == "CaO"
    (rejected,) = read(tmp_path, cif(symbol("F m -3 m"), sites, formula="C O", units=4))
    assert "'CA1' names no element" in rejected.reason


def test_hydrogen_and_deuterium_on_one_site(tmp_path):
    sites = ["Li1 Li 0 0 0 1", "H1 H .5 .5 .5 0.4", "D1 D .5 .5 .5 0.6"]
    (rejected,) = read(tmp_path, cif(symbol("F m -3 m"), sites, columns=OCCUPANCY))
    assert "partial occupancy: H1 has occupancy 0.4" in rejected.reason


def test_cartesian_sites_are_named(tmp_path):
    text = cif(symbol("F m -3 m"), ROCK_SALT).replace("_fract_", "_Cartn_")
    (rejected,) = read(tmp_path, text)
    assert "the atoms have Cartesian coordinates (_atom_site_Cartn_x)" in rejected.reason


@pytest.mark.parametrize("digits", [3, 4, 6])
def test_rounded_special_positions_are_one_atom(tmp_path, digits):
    third, sixth = round(1 / 3, digits), round(1 / 6, digits)
    sites = [f"Al Al {sixth} {-sixth} {-sixth}", f"K K {third} {2 * third} {round(0.5 / 3, digits)}"]
    crystal = read_one(tmp_path, cif(symbol("R -3 m :H"), sites, (6.97, 6.97, 17.27, 90, 90, 120)))
    assert (crystal.atomic_numbers == 13).sum() == 9
    assert (crystal.atomic_numbers == 19).sum() == 3


def test_sites_between_two_choices_are_refused(tmp_path):
    # 0.06 Angstrom from the mirror plane: two atoms 0.12 Angstrom apart, which no crystal has.
    (crystal,) = read(tmp_path, cif(symbol("P m -3 m"), ["Mg1 Mg 0.015 0 0"], (4, 4, 4, 90, 90, 90)))
    assert isinstance(crystal, Rejected) or crystal.num_atoms == 6


@pytest.mark.parametrize("symmetric", [None, 0.01])
@pytest.mark.parametrize("crystal", ONE_OF_EACH_SYSTEM, ids=SYSTEM_IDS)
def test_frame_is_that_of_pymatgen(tmp_path, crystal, symmetric):
    text = str(CifWriter(to_pymatgen(crystal), symprec=symmetric))
    found = read_one(tmp_path, text)
    lengths = np.linalg.norm(found.cell, axis=1)
    a, b, c = found.cell
    angles = [np.degrees(np.arccos(u @ v / np.linalg.norm(u) / np.linalg.norm(v))) for u, v in ((b, c), (a, c), (a, b))]
    np.testing.assert_allclose(found.cell, Lattice.from_parameters(*lengths, *angles).matrix, atol=1e-6)
    assert found.cell[2, 0] == found.cell[2, 1] == found.cell[0, 1] == 0


def test_text_fields_quotes_and_comments(tmp_path):
    text = cif(symbol("F m -3 m"), ROCK_SALT).replace(
        "_cell_length_a", "# _cell_length_a 9\n_publ_title\n;\ndata_of a journal\n_cell_length_a 1\n;\n_cell_length_a"
    )
    assert read_one(tmp_path, text.replace("'F m -3 m'", '"F m -3 m"')).num_atoms == 8
    assert read_one(tmp_path, text.replace("'F m -3 m'", "\n;F m -3 m\n;")).num_atoms == 8


def test_repeated_tags(tmp_path):
    text = cif([symbol("F m -3 m"), "_chemical_formula_sum 'Mg O'", "_chemical_formula_sum ''"], ROCK_SALT)
    assert read_one(tmp_path, text).num_atoms == 8
    (rejected,) = read(tmp_path, cif([symbol("F m -3 m"), "_cell_length_a 9"], ROCK_SALT))
    assert rejected.reason.startswith("_cell_length_a occurs twice in the block, with different values")


def test_blocks_have_names_of_their_own(tmp_path):
    block = cif(symbol("F m -3 m"), ROCK_SALT, name="same")
    other = cif(symbol("F m -3 m"), ROCK_SALT, name="other")
    journal = "data_global\n_publ_title 'no crystal'\n"
    ids = [crystal.id for crystal in read(tmp_path, block + journal + other + block)]
    assert ids == ["a:same:1", "a:other", "a:same:3"]


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ("_cell_modulation_dimension 1", "modulated structures are not supported"),
        ("loop_\n_space_group_symop_magn_operation.xyz\nx,y,z,+1", "magnetic space groups are not supported"),
    ],
)
def test_structures_that_are_more_than_a_crystal(tmp_path, extra, reason):
    (rejected,) = read(tmp_path, cif([symbol("F m -3 m"), extra], ROCK_SALT))
    assert reason in rejected.reason


@pytest.mark.parametrize("tag", ["_atom_site_label", "_atom_site_type_symbol", "_atom_site_fract_y"])
def test_a_column_outside_the_loop_of_atoms_is_named(tmp_path, tag):
    text = cif([symbol("F m -3 m"), f"{tag} Mg"], ROCK_SALT).replace(f"\n{tag}\n", "\n_atom_site_other\n")
    (rejected,) = read(tmp_path, text)
    assert re.search(f"{tag} has 1 values for 2 atoms|{tag[:-1]}x, _y and _z are not all given", rejected.reason)


def test_broken_grammar_names_the_line(tmp_path):
    text = cif(symbol("F m -3 m"), [*ROCK_SALT, "O2 O 0.5"])
    with pytest.raises(BadFileError, match=r"a\.cif: not valid CIF: line \d+"):
        read(tmp_path, text)


@pytest.mark.parametrize("lost", ["_cell_length_b", "_cell_angle_gamma"])
def test_an_incomplete_cell_is_named(tmp_path, lost):
    (rejected,) = read(tmp_path, cif(symbol("F m -3 m"), ROCK_SALT).replace(lost, "_lost"))
    assert rejected.reason.startswith(f"{lost} is missing")


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ((0, 4, 4, 90, 90, 90), "are not all positive"),
        ((4, 4, 4, 90, 190, 90), "make no cell"),
        ((4, 4, 4, 30, 30, 90), "make no cell"),
        (("4.2.1", 4, 4, 90, 90, 90), "_cell_length_a is '4.2.1', which is not a number"),
    ],
)
def test_cells_that_cannot_be(tmp_path, cell, reason):
    (rejected,) = read(tmp_path, cif(symbol("P 1"), ROCK_SALT, cell))
    assert reason in rejected.reason

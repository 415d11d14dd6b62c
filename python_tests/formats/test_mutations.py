# SPDX-License-Identifier: MIT
"""Damaged files are refused, or read as the crystal that was written: bytes, lines, tags and numbers are changed."""

import json

import numpy as np
import pytest
from crystal_examples import ONE_OF_EACH_SYSTEM, to_pymatgen
from mutations import check_mutations, mutations, spans_of
from pymatgen.io.cif import CifWriter

CRYSTAL = ONE_OF_EACH_SYSTEM[2]  # orthorhombic PtO2, six atoms
STRUCTURE = to_pymatgen(CRYSTAL).as_dict()
FRACTIONAL = (CRYSTAL.positions @ np.linalg.inv(CRYSTAL.cell)).tolist()
SYMBOLS = ["Pt", "Pt", "O", "O", "O", "O"]

_HEAD = "platinum dioxide by hand\n1.0\n3.2 0.1 0\n0.2 4.5 0.3\n0.1 0.2 4.9\n"
_POSITIONS = [".1 .2 .3", ".6 .7 .8", ".1 .4 .6", ".9 .2 .1", ".5 .5 .2", ".3 .8 .7"]
POSCAR_5 = (
    f"{_HEAD}Pt O\n2 4\nSelective dynamics\nDirect\n"
    + "".join(f"{xyz} T F T\n" for xyz in _POSITIONS)
    + "\n"
    + "".join(f" {xyz}\n" for xyz in _POSITIONS)
)
POSCAR_4 = f"{_HEAD}2 4\nCartesian\n" + "".join(
    f"{xyz} {symbol}\n" for xyz, symbol in zip(_POSITIONS, SYMBOLS, strict=True)
)
POSCAR_4_COMMENT = (
    POSCAR_5.replace("platinum dioxide by hand", "Pt O").replace("1.0\n", "-70.0\n", 1).replace("\nPt O\n", "\n")
)
_XYZ = "".join(f"{symbol} {xyz} 0.1 0.2 0.3\n" for xyz, symbol in zip(_POSITIONS, SYMBOLS, strict=True))
_FRAME = f'6\nLattice="3.2 0.1 0 0.2 4.5 0.3 0.1 0.2 4.9" Properties=species:S:1:pos:R:3:forces:R:3 pbc="T T T"\n{_XYZ}'
_JSON_STRINGS = r'"(?:element|occu|name|chemical_symbols|concentration|species_at_sites|elements|numbers)": *([^\n]*)'
_JSON_CELL = r'"(?:matrix|lattice_vectors|lattice_mat|cell|lattice_angstrom|atomic_numbers)": *([^\n]*)'
_NATIVE_NUMBERS = r'(?:ngstrom|bers)": ([^a-z]*)'

OPTIMADE = {
    "id": "mp-1",
    "type": "structures",
    "attributes": {
        "lattice_vectors": CRYSTAL.cell.tolist(),
        "cartesian_site_positions": CRYSTAL.positions.tolist(),
        "species_at_sites": SYMBOLS,
        "species": [{"name": name, "chemical_symbols": [name], "concentration": [1.0]} for name in ("Pt", "O")],
        "nsites": 6,
        "dimension_types": [1, 1, 1],
    },
}
JARVIS = {
    "jid": "JVASP-1",
    "atoms": {
        "lattice_mat": CRYSTAL.cell.tolist(),
        "coords": FRACTIONAL,
        "elements": SYMBOLS,
        "cartesian": False,
    },
}
ASE = {
    "1": {
        "cell": CRYSTAL.cell.tolist(),
        "numbers": CRYSTAL.atomic_numbers.tolist(),
        "positions": CRYSTAL.positions.tolist(),
        "pbc": [True] * 3,
    },
    "ids": [1],
    "nextid": 2,
}
NATIVE = {
    "id": "mp-1",
    "lattice_angstrom": CRYSTAL.cell.tolist(),
    "atomic_numbers": CRYSTAL.atomic_numbers.tolist(),
    "frac_coords": FRACTIONAL,
}


def lines_of_json(value):
    """JSON with a key on each line, so that lines can be dropped; lists of numbers and strings stay on one line."""
    if isinstance(value, dict):
        return "{\n" + ",\n".join(f"{json.dumps(key)}: {lines_of_json(inner)}" for key, inner in value.items()) + "\n}"
    if isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        return "[\n" + ",\n".join(map(lines_of_json, value)) + "\n]"
    return json.dumps(value)


def json_spans(data):
    return spans_of(_JSON_STRINGS, data) + spans_of(_JSON_CELL, data)


def poscar_spans(first_atom, last_atom, *others):
    def spans(data):
        lines = spans_of(r"^[^\n]*\n", data)
        return [lines[row] for row in (1, 2, 3, 4, 5, *others, *range(first_atom, last_atom))]

    return spans


def extxyz_spans(data):
    return spans_of(r'Lattice="([^"]*)"', data) + spans_of(r"^(?:Pt|O) [^\n]*\n", data) + spans_of(r"^\d+\n", data)


_CIF_CELL = """data_corundum
_chemical_name_mineral corundum
_chemical_formula_sum 'Al2 O3'
_cell_formula_units_Z 6
_cell_length_a 4.7602(4)
_cell_length_b 4.7602(4)
_cell_length_c 12.9933(17)
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 120
_publ_section_title
;
 data_of a refinement
;
"""
_CIF_ATOMS = """loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Al1 Al3+ 0 0 0.35216(1) 1
O1 O2- 0.30624(4) 0 0.25 1.0

loop_
_citation_id
_citation_year
primary 1993
2 2001
"""
CIF_SYMBOL = f"{_CIF_CELL}_symmetry_space_group_name_H-M 'R -3 c :H'\n_symmetry_Int_Tables_number 167\n{_CIF_ATOMS}"
CIF_NUMBER = f"{_CIF_CELL}_space_group.IT_number 167\n{_CIF_ATOMS}"
CIF_OPERATIONS = str(CifWriter(to_pymatgen(ONE_OF_EACH_SYSTEM[4]), symprec=0.01))
CIF_ALL_ATOMS = str(CifWriter(to_pymatgen(CRYSTAL)))


def cif_spans(data):
    tags = spans_of(r"^ *_(?:cell|symmetry|space_group)[^\n]*\n", data)
    operations = spans_of(r"^ *(?:\d+ +)?'[^\n]*\n", data)
    atoms = spans_of(r"^ *[A-Z][a-z]?\d*[+-]? [^\n]*\n", data)
    return tags + operations + atoms


FILES = {
    "CIF with a symbol": ("a.cif", CIF_SYMBOL, cif_spans),
    "CIF with a number": ("a.cif", CIF_NUMBER, cif_spans),
    "CIF with operations": ("a.cif", CIF_OPERATIONS, cif_spans),
    "CIF with all atoms": ("a.cif", CIF_ALL_ATOMS, cif_spans),
    "CIF of two blocks": ("a.cif", CIF_SYMBOL + CIF_ALL_ATOMS, cif_spans),
    "POSCAR of VASP 5": ("a.vasp", POSCAR_5, poscar_spans(9, 15, 6)),
    "POSCAR with symbols behind positions": ("a.vasp", POSCAR_4, poscar_spans(7, 13)),
    "POSCAR with symbols in the comment": ("a.vasp", POSCAR_4_COMMENT, poscar_spans(8, 14, 0)),
    "one frame": ("a.xyz", _FRAME, extxyz_spans),
    "three frames": ("a.xyz", _FRAME * 3, extxyz_spans),
    "pymatgen": ("a.json", lines_of_json([{"structure": STRUCTURE, "material_id": "mp-1"}]), json_spans),
    "OPTIMADE": ("a.json", lines_of_json({"data": [OPTIMADE], "meta": {"more": False}}), json_spans),
    "JARVIS": ("a.json", lines_of_json([JARVIS]), json_spans),
    "ASE": ("a.json", lines_of_json(ASE), json_spans),
    "pandas": ("a.json", lines_of_json({"structure": {"0": STRUCTURE}, "n": {"0": 1.7}}), json_spans),
    "JSON lines": ("a.jsonl", f"{json.dumps(NATIVE)}\n", lambda data: spans_of(_NATIVE_NUMBERS, data)),
}


@pytest.mark.parametrize("name", FILES)
def test_no_mutation_becomes_another_crystal(tmp_path, name):
    file_name, text, sensitive = FILES[name]
    data = text.encode()
    num_accepted = check_mutations(tmp_path / file_name, data, sensitive(data), count=1000, seed=len(name))
    assert num_accepted  # the check was not vacuous


def test_mutations_are_repeatable_and_change_the_file():
    data = POSCAR_5.encode()
    first, second = (list(mutations(data, 200, seed=3)) for _ in range(2))
    assert first == second
    assert sum(mutation.data == data for mutation in first) < 30  # exchanging equal numbers changes nothing

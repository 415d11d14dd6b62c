# SPDX-License-Identifier: MIT
"""Structures in JSON of pymatgen, OPTIMADE, JARVIS and ASE, in all containers that are in use."""

import json
import re
import sys

import numpy as np
import pytest
from ase import Atoms
from ase.io import write as ase_write
from pymatgen.core import DummySpecies, Structure

from dtnn_fast.crystals.crystal import Crystal, Rejected
from dtnn_fast.errors import BadFileError
from dtnn_fast.formats.reading import read_crystals

CELL = [[4.2, 0, 0], [0, 4.3, 0.1], [0, 0, 4.4]]
FRACTIONAL = [[0, 0, 0], [0.5, 0.5, 0.25]]
CARTESIAN = (np.array(FRACTIONAL) @ CELL).tolist()
PYMATGEN = Structure(CELL, ["Mg", "O"], FRACTIONAL)
STRUCTURE = PYMATGEN.as_dict()
OPTIMADE = {
    "lattice_vectors": CELL,
    "cartesian_site_positions": CARTESIAN,
    "species_at_sites": ["magnesium", "O"],
    "species": [
        {"name": "magnesium", "chemical_symbols": ["Mg"], "concentration": [1.0]},
        {"name": "O", "chemical_symbols": ["O"], "concentration": [1.0], "mass": [15.999]},
    ],
    "nsites": 2,
    "dimension_types": [1, 1, 1],
    "structure_features": [],
}
JARVIS = {"lattice_mat": CELL, "coords": FRACTIONAL, "elements": ["Mg", "O"], "cartesian": False, "props": ["", ""]}
ASE = {"cell": CELL, "numbers": [12, 8], "positions": CARTESIAN, "pbc": [True, True, True]}
ENTRY = {
    "@module": "pymatgen.entries.computed_entries",
    "@class": "ComputedStructureEntry",
    "energy": -10.0,
    "composition": {"Mg": 1.0, "O": 1.0},
    "entry_id": "agm000001",
    "data": {"mat_id": "agm000002", "formula": "MgO", "band_gap_ind": float("nan")},
    "structure": STRUCTURE,
}


def read(path, value):
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return read_crystals(path)


def assert_magnesium_oxide(item):
    assert isinstance(item, Crystal), item
    assert item.atomic_numbers.tolist() == [12, 8]
    np.testing.assert_allclose(item.cell, CELL, atol=1e-12)
    np.testing.assert_allclose(item.positions, CARTESIAN, atol=1e-12)
    assert item.pbc.all()


def without(mapping, *keys):
    return {key: value for key, value in mapping.items() if key not in keys}


CONTAINERS = {
    "pymatgen": (STRUCTURE, ["a"]),
    "oxidation states": (PYMATGEN.copy().add_oxidation_state_by_element({"Mg": 2, "O": -2}).as_dict(), ["a"]),
    "list of one": ([STRUCTURE], ["a"]),
    # Alexandria and ComputedStructureEntry: case 16
    "entries": ({"entries": [ENTRY, {**ENTRY, "entry_id": None}]}, ["agm000001", "agm000002"]),
    "list of entries": ([ENTRY, ENTRY], ["agm000001", "agm000001"]),
    "entries by id": ({"one": {**STRUCTURE}, "two": without(ENTRY, "entry_id", "data")}, ["one", "two"]),
    # ids of databases
    "material_id": ({"data": [{"material_id": "mp-1", "structure": STRUCTURE, "task_id": "mp-9"}]}, ["mp-1"]),
    "task_id": ({"response": [{"task_id": "mp-9", "output": {"structure": STRUCTURE}}]}, ["mp-9"]),
    "structure_id": ([{"structure_id": 17, "structure": STRUCTURE}], ["17"]),
    "_id": ([{"_id": {"$oid": "5f"}, "structure": STRUCTURE}, {"_id": "6f", "structure": STRUCTURE}], ["5f", "6f"]),
    "empty id": ([{"material_id": "", "id": None, "structure": STRUCTURE}], ["a"]),
    "two steps by id": (
        {"mp-1": {"mp-1-0": {"structure": STRUCTURE}}, "mp-2": {"mp-2-5": {"structure": STRUCTURE}}},
        ["mp-1-0", "mp-2-5"],
    ),
    # matbench and pandas: case 16
    "split": (
        {"index": [0, 1], "columns": ["structure", "n"], "data": [[STRUCTURE, 1.7], [STRUCTURE, 1.8]]},
        ["a:0", "a:1"],
    ),
    "split with names": ({"index": ["x", "y"], "columns": ["n", "input"], "data": [[1.7, STRUCTURE]] * 2}, ["x", "y"]),
    "split with ids": ({"columns": ["structure", "material_id"], "data": [[STRUCTURE, "mp-1"]]}, ["mp-1"]),
    "columns": ({"structure": {"0": STRUCTURE, "1": STRUCTURE}, "n": {"0": 1.7, "1": 1.8}}, ["a:0", "a:1"]),
    "columns with ids": ({"structure": {"0": STRUCTURE}, "mpid": {"0": 1}, "material_id": {"0": "mp-1"}}, ["mp-1"]),
    "columns of other name": ({"input": {"x": STRUCTURE, "y": STRUCTURE}, "n": {"x": 1, "y": 2}}, ["x", "y"]),
    "records": ([{"structure": STRUCTURE, "n": 1.7}, {"structure": STRUCTURE, "n": 1.8}], ["a:1", "a:2"]),
    "index": ({"0": {"structure": STRUCTURE, "n": 1.7}, "1": {"structure": STRUCTURE, "n": 1.8}}, ["a:0", "a:1"]),
    "values": ([[STRUCTURE, 1.7], [STRUCTURE, 1.8]], ["a:1", "a:2"]),
    "table": ({"schema": {"fields": []}, "data": [{"index": 0, "structure": STRUCTURE}]}, ["a"]),
    # other forms
    "OPTIMADE": ({"data": [{"id": "x/1", "type": "structures", "attributes": OPTIMADE}], "meta": {}}, ["x/1"]),
    "OPTIMADE, single": ({"data": {"id": "x/1", "attributes": OPTIMADE}, "links": None}, ["x/1"]),
    "OPTIMADE, flat": ([{**without(OPTIMADE, "species"), "species_at_sites": ["Mg", "O"], "id": "x"}], ["x"]),
    "JARVIS": (
        [
            {"jid": "JVASP-1", "atoms": JARVIS},
            {"jid": "JVASP-2", "atoms": {**JARVIS, "coords": CARTESIAN, "cartesian": True}},
        ],
        ["JVASP-1", "JVASP-2"],
    ),
    "ASE": (
        {"1": ASE, "2": {**ASE, "key_value_pairs": {"material_id": "mp-1"}}, "ids": [1, 2], "nextid": 3},
        ["a:1", "mp-1"],
    ),
    "NaN outside of the structure": (json.dumps(ENTRY).replace("-10.0", "Infinity"), ["agm000001"]),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_containers(tmp_path, name):
    value, ids = CONTAINERS[name]
    items = read(tmp_path / "a.json", value)
    for item in items:
        assert_magnesium_oxide(item)
    assert [item.id for item in items] == ids


@pytest.mark.parametrize("document", [ENTRY, {"jid": "x", "atoms": JARVIS}, {"attributes": OPTIMADE}, ASE])
def test_the_same_documents_as_json_lines(tmp_path, document):
    items = read(tmp_path / "a.jsonl", f"{json.dumps(document)}\n{json.dumps(document)}\n")
    assert len(items) == 2
    for item in items:
        assert_magnesium_oxide(item)


def test_lines_of_json_end_in_newlines_only(tmp_path):
    line = json.dumps({**ENTRY, "remark": "a\u2028b\x85c"}, ensure_ascii=False)
    for end in ("\n", "\r\n", "\r"):
        path = tmp_path / "a.jsonl"
        path.write_bytes((line + end + line).encode())
        assert [item.id for item in read_crystals(path)] == ["agm000001"] * 2


@pytest.mark.parametrize("num_frames", [1, 2])
def test_database_that_ase_writes(tmp_path, num_frames):
    atoms = Atoms("MgO", cell=CELL, scaled_positions=FRACTIONAL, pbc=True)
    ase_write(tmp_path / "a.json", [atoms] * num_frames)
    items = read_crystals(tmp_path / "a.json")
    assert [item.id for item in items] == ([["a"], ["a:1", "a:2"]][num_frames - 1])
    for item in items:
        assert_magnesium_oxide(item)


DUMMY = Structure(CELL, ["Mg", DummySpecies("X")], FRACTIONAL).as_dict()
HALF = {"name": "O", "chemical_symbols": ["O", "vacancy"], "concentration": [0.5, 0.5]}


def optimade(**changes):
    return {"id": "x", "attributes": {**OPTIMADE, **changes}}


def species(**changes):
    return optimade(species=[OPTIMADE["species"][0], {**OPTIMADE["species"][1], **changes}])


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (DUMMY, "site 1 holds 'X', which is not an element"),
        ({"@class": "ComputedEntry", "entry_id": "x"}, "it is a ComputedEntry, a ComputedStructureEntry is needed"),
        ({"@class": "Molecule", "sites": []}, "a Molecule has no lattice"),
        (json.loads(json.dumps(STRUCTURE).replace('"occu": 1', '"occu": NaN', 1)), "partial occupancy at site 0"),
        (json.loads(json.dumps(STRUCTURE).replace('"occu"', '"occupation"', 1)), "not a pymatgen structure: KeyError"),
        (species(**HALF), r"partial occupancy of species 'O' \(O: 0.5, vacancy: 0.5\): order the structure first"),
        (species(concentration=[0.9]), r"partial occupancy of species 'O' \(O: 0.9\)"),
        (species(chemical_symbols=["vacancy"]), "partial occupancy of species 'O'"),
        (species(chemical_symbols=["X"]), "site 1 holds 'X', which is not an element"),
        (species(attached=["H"]), "species 'O' has atoms attached"),
        (species(name="magnesium"), "species 'magnesium' is given twice"),
        (optimade(structure_features=["implicit_atoms"]), "atoms without positions"),
        (optimade(structure_features=["disorder"]), "partial occupancy"),
        (optimade(structure_features=["assemblies"]), "assemblies"),
        (optimade(species_at_sites=["magnesium", "S"]), "species_at_sites has 'S', which is not in species"),
        (optimade(nsites=3), "nsites is 3, but species_at_sites has 2 entries"),
        (optimade(cartesian_site_positions=CARTESIAN[:1]), r"expected `positions` of shape \[2, 3\]"),
        ({"atoms": {**JARVIS, "elements": ["Mg", "oxygen"]}}, "site 1 holds 'oxygen'"),
        ({"atoms": without(JARVIS, "cartesian")}, "not a JARVIS structure: KeyError: 'cartesian'"),
        ({"atoms": {**JARVIS, "cartesian": "yes"}}, "expected `cartesian` to be true or false"),
        ({**ASE, "numbers": [12, 8.5]}, "expected `atomic_numbers`"),
        ({**ASE, "cell": [4.2, 4.3, 4.4]}, "expected `cell`"),
        (without(ASE, "pbc"), "not an ASE structure: KeyError: 'pbc'"),
        (without(ASE, "cell"), "no cell, so this is a molecule"),
        ({}, "no structure in this document"),
        (3, "no structure in this document"),
    ],
)
def test_rejected_documents(tmp_path, document, reason):
    good, rejected = read(tmp_path / "a.json", [ENTRY, document])
    assert_magnesium_oxide(good)
    assert isinstance(rejected, Rejected), rejected
    assert re.search(reason, rejected.reason), rejected.reason


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"entries": [{"@class": "ComputedEntry"}]}, "no structure in it: .*got ComputedEntry"),
        ({"index": [0], "columns": ["structure", "n"], "data": [[STRUCTURE, 1], [STRUCTURE, 2]]}, "different lengths"),
        ({"columns": ["structure", "n"], "data": [[STRUCTURE]]}, "expected rows of 2 columns"),
        ('{"a": %s, "a": %s}' % ((json.dumps(STRUCTURE),) * 2), "the key 'a' occurs twice in one object"),
        ("// a comment\n[]", "not valid JSON"),
        ("[" * 100000 + "]" * 100000, "nested too deeply"),
        ('{"structure":' * 900 + "{}" + "}" * 900, "no structure|nested too deeply"),
    ],
)
def test_refused_files(tmp_path, value, message):
    with pytest.raises(BadFileError, match=message):
        read(tmp_path / "a.json", value)


@pytest.mark.parametrize("text", ["[" * 100000 + "]" * 100000, '{"a":' * 100000 + "1" + "}" * 100000])
def test_nesting_is_refused_where_a_library_has_raised_the_limit_of_recursion(tmp_path, text):
    # symfc, which phonopy imports, does so: the parser would overflow the stack and end the process.
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(100000)
    try:
        with pytest.raises(BadFileError, match="nested too deeply"):
            read(tmp_path / "a.json", text)
        brackets = "[" * 5000 + '\\"'
        assert_magnesium_oxide(read(tmp_path / "b.json", {**STRUCTURE, "note": brackets})[0])
    finally:
        sys.setrecursionlimit(limit)

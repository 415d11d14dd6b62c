# SPDX-License-Identifier: MIT
"""Scalars beside a structure stay with the crystal, under the names of the source."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_json_structures import ASE, ENTRY, JARVIS, OPTIMADE, STRUCTURE

from dtnn_fast.formats.reading import read_crystals
from dtnn_fast.formats.scalars import MAX_TEXT, parse_scalar, scalars_of

ALEXANDRIA = {
    **ENTRY,
    "correction": 0.0,
    "parameters": {"run_type": "PBE"},
    "data": {"mat_id": "agm2", "e_above_hull": 0.01, "band_gap_ind": 1.5, "band_gap_dir": math.nan, "spg": 225},
}
DOCUMENTS = {
    "Alexandria": (
        ALEXANDRIA,
        {"energy": -10.0, "correction": 0.0, "mat_id": "agm2", "e_above_hull": 0.01, "band_gap_ind": 1.5, "spg": 225},
    ),
    "Materials Project": (
        {
            "material_id": "mp-1",
            "band_gap": 4.5,
            "is_metal": False,
            "nsites": 2,
            "symmetry": {"crystal_system": "Cubic", "symbol": "Fm-3m", "number": 225},
            "structure": STRUCTURE,
            "origins": [{"name": "structure", "task_id": "mp-2"}],
            "possible_species": None,
        },
        {
            "band_gap": 4.5,
            "is_metal": False,
            "nsites": 2,
            "symmetry.crystal_system": "Cubic",
            "symmetry.symbol": "Fm-3m",
            "symmetry.number": 225,
        },
    ),
    "OPTIMADE": (
        {"id": "x", "type": "structures", "attributes": {**OPTIMADE, "_x_gap": 1.5, "license": "CC-BY-4.0"}},
        {"type": "structures", "nsites": 2, "_x_gap": 1.5, "license": "CC-BY-4.0"},
    ),
    "JARVIS": (
        {"jid": "JVASP-1", "atoms": JARVIS, "optb88vdw_bandgap": 4.47, "mbj_bandgap": "na", "spg": "225"},
        {"optb88vdw_bandgap": 4.47, "mbj_bandgap": "na", "spg": "225"},
    ),
    "ASE": ({**ASE, "energy": -3.5, "key_value_pairs": {"gap": 2.0}}, {"energy": -3.5, "gap": 2.0}),
    "WBM": (
        {"material_id": "wbm-1-1", "formula_from_cse": "Mg1 O1", "computed_structure_entry": ALEXANDRIA},
        {
            **{"formula_from_cse": "Mg1 O1", "energy": -10.0, "correction": 0.0, "entry_id": "agm000001"},
            **{"mat_id": "agm2", "e_above_hull": 0.01, "band_gap_ind": 1.5, "spg": 225},
        },
    ),
    "properties of a structure": ({**STRUCTURE, "charge": 0, "properties": {"gap": 1.0}}, {"gap": 1.0}),
    "a value on two levels": (
        {"structure": STRUCTURE, "energy": 1, "data": {"energy": 2, "a": 3}},
        {"energy": 1, "a": 3},
    ),
    "long text": ({"structure": STRUCTURE, "a": "x" * MAX_TEXT, "b": "x" * (MAX_TEXT + 1)}, {"a": "x" * MAX_TEXT}),
}


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("ending", ["json", "jsonl"])
def test_scalars_of_documents(tmp_path, name, ending):
    document, expected = DOCUMENTS[name]
    path = tmp_path / f"a.{ending}"
    path.write_text(json.dumps(document))
    (crystal,) = read_crystals(path)
    assert crystal.info == expected


def test_scalars_of_tables_and_comment_lines(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"columns": ["structure", "n"], "index": [0], "data": [[STRUCTURE, 1.7]]}))
    assert read_crystals(path)[0].info == {"n": 1.7}
    path = tmp_path / "a.extxyz"
    words = 'Lattice="4 0 0 0 4 0 0 0 4" pbc="T T T" id=x bandGap=1.5 stable=T n=3 mp_id="mp-1" weight=nan'
    path.write_text(f"1\n{words}\nPo 0 0 0\n")
    (crystal,) = read_crystals(path)
    assert crystal.id == "x"
    assert crystal.info == {"bandGap": 1.5, "stable": True, "n": 3, "mp_id": "mp-1"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-1.5", -1.5),
        (" 2e3 ", 2000.0),
        ("True", True),
        ("FALSE", False),
        ("", None),
        ("nan", None),
        ("inf", None),
        ("NaN", None),
        ("0012", "0012"),
        ("0", 0),
        ("0.5", 0.5),
        ("Fm-3m", "Fm-3m"),
        ("9" * 30, 1e30),
    ],
)
def test_cells_of_text(text, value):
    parsed = parse_scalar(text)
    assert parsed == value
    assert type(parsed) is type(value)


@given(st.one_of(st.integers(-(10**17), 10**17), st.floats(allow_nan=False, allow_infinity=False), st.booleans()))
def test_values_survive_as_text(value):
    assert parse_scalar(str(value)) == value


@given(st.dictionaries(st.text(), st.one_of(st.none(), st.floats(), st.text(), st.lists(st.integers()))))
def test_scalars_can_be_written_as_json(values):
    kept = scalars_of(values)
    assert json.loads(json.dumps(kept, allow_nan=False)) == kept

# SPDX-License-Identifier: MIT
"""`dtnn-fast screen --born-charges`: the charges of all atoms in part-000000-0000.parquet."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from model_cases import TINY, config, labelled, permuted, randomised
from pyarrow import parquet

from dtnn_fast import DTNN, Ensemble
from dtnn_fast.formats import read_crystals, write_packed
from dtnn_fast.symmetry import with_operations

SETTINGS = replace(
    config(2, channels=TINY, latent=8, targets=("electronic", "ionic", "total"), joint=True), born_charges=True
)
CIF = """data_CaF2
_cell_length_a 5.46
_cell_length_b 5.46
_cell_length_c 5.46
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_H-M_alt 'F m -3 m'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Ca1 Ca 0 0 0
F1 F 0.25 0.25 0.25
"""
BAD = CIF.replace("Ca1 Ca 0 0 0", "Ca1 Ca 0 0 nan")


@pytest.fixture
def files(tmp_path):
    """A model with charges, one without, crystals of several sizes out of order, a CIF, and a file that is damaged."""
    randomised(SETTINGS).float().save(tmp_path / "model")
    DTNN(replace(SETTINGS, born_charges=False)).save(tmp_path / "plain")
    (tmp_path / "input").mkdir()
    sizes = np.random.default_rng(0).permutation(30)
    crystals = [labelled()[index] for index in sizes]
    order = np.random.default_rng(1)
    crystals = [permuted(crystal, order.permutation(crystal.num_atoms)) for crystal in crystals]
    write_packed(tmp_path / "input" / "crystals.npz", [*with_operations(crystals[:15]), *crystals[15:]], {})
    (tmp_path / "input" / "fluorite.cif").write_text(CIF)
    (tmp_path / "input" / "bad.cif").write_text(BAD)
    return tmp_path


def values(row, name):
    return np.array(row[name])


def test_charges_stand_in_the_order_of_the_files(program, files):
    output = files / "out"
    arguments = ("screen", files / "input", "--model", files / "model", "-o", output, "--batch-atoms", 64)
    result = program(*arguments, "--born-charges")
    assert result.exit_code == 3, result.stderr  # one file is damaged
    predictions = parquet.read_table(output / "part-000000-0000.parquet")
    rows = {row["id"]: row for row in predictions.to_pylist()}
    crystals = [c for name in ("crystals.npz", "fluorite.cif") for c in read_crystals(files / "input" / name)]
    assert rows.keys() == {crystal.id for crystal in crystals}
    model = DTNN.from_pretrained(files / "model")
    largest = 0.0
    for crystal, expected in zip(crystals, model.predict_born_charges(crystals), strict=True):
        row = rows[crystal.id]
        charges = values(row, "born_charges")
        assert charges.shape == (crystal.num_atoms, 3, 3)
        np.testing.assert_allclose(charges, expected, atol=1e-5)
        np.testing.assert_allclose(charges.sum(0), 0, atol=1e-9)
        np.testing.assert_array_equal(values(row, "atomic_numbers"), crystal.atomic_numbers)
        np.testing.assert_array_equal(values(row, "positions"), crystal.positions)
        largest = max(largest, np.abs(expected).max())
    assert largest > 0.05
    assert json.loads((output / "summary.json").read_text())["born_charges"] is True
    assert "other settings" in program(*arguments).stderr
    assert program(*arguments, "--fresh").exit_code == 3
    without = parquet.read_table(output / "part-000000-0000.parquet")
    assert without.column_names == [n for n in predictions.column_names if n not in COLUMNS]
    np.testing.assert_allclose(without["total_mean"], predictions["total_mean"], rtol=1e-5, atol=1e-5)


COLUMNS = {"atomic_numbers": None, "positions": b"Angstrom", "born_charges": b"e"}


def test_columns_say_units_and_axes(program, files):
    program("screen", files / "input", "--model", files / "model", "-o", files / "out", "--born-charges")
    table = parquet.read_table(files / "out" / "part-000000-0000.parquet")
    for name, unit in COLUMNS.items():
        metadata = table.schema.field(name).metadata
        assert metadata.get(b"unit") == unit
        assert metadata[b"description"]
    assert b"[atom][field][displacement]" in table.schema.field("born_charges").metadata[b"description"]
    assert str(table.schema.field("born_charges").type).count("list<") == 3
    # As pandas gives them.
    row = table.to_pandas().iloc[0]
    assert np.array([[list(line) for line in atom] for atom in row["born_charges"]]).shape == (row["num_atoms"], 3, 3)


def test_an_ensemble_of_models_with_charges(program, files):
    Ensemble([randomised(SETTINGS, seed).float() for seed in (0, 1)]).save(files / "ensemble")
    out = files / "out"
    result = program(
        "screen", files / "input" / "fluorite.cif", "--model", files / "ensemble", "-o", out, "--born-charges"
    )
    assert result.exit_code == 0, result.stderr
    (row,) = parquet.read_table(out / "part-000000-0000.parquet").to_pylist()
    (crystal,) = read_crystals(files / "input" / "fluorite.cif")
    (expected,) = Ensemble.from_pretrained(files / "ensemble").predict_born_charges(crystal)
    np.testing.assert_allclose(values(row, "born_charges"), expected, atol=1e-5)


def test_a_model_without_charges_is_refused_before_anything_else(program, files):
    output = files / "out"
    result = program("screen", files / "input", "--model", files / "plain", "-o", output, "--born-charges")
    assert result.exit_code == 2
    assert "needs a model with Born charges" in " ".join(result.stderr.replace("│", "").split())
    assert not output.exists()


def test_json_of_predict_names_the_atoms(program, files):
    result = program("predict", files / "input" / "fluorite.cif", "--model", files / "model", "--json")
    (entry,) = json.loads(result.stdout)["crystals"]
    (crystal,) = read_crystals(files / "input" / "fluorite.cif")
    assert entry["atomic_numbers"] == crystal.atomic_numbers.tolist()
    np.testing.assert_allclose(entry["positions"], crystal.positions)
    charges = np.array(entry["born_charges"])
    # Fluorine's site has no center of inversion, but is cubic, as that of calcium: multiples of the unit tensor.
    np.testing.assert_allclose(charges, charges[:, :1, :1] * np.eye(3), atol=1e-3 * np.abs(charges).max())

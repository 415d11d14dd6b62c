# SPDX-License-Identifier: MIT
"""Each number comes with what it needs: its own error bar, the frame of a tensor, the mark of known crystals."""

import csv
import json

import numpy as np
import pytest
from pyarrow import parquet
from pymatgen.core import Lattice

from dtnn_fast import DTNN
from dtnn_fast.formats.reading import read_crystals

# Monoclinic HfO2, and a triclinic cell of the same atoms.
CELLS = {"monoclinic": (5.117, 5.175, 5.292, 90.0, 99.22, 90.0), "triclinic": (5.1, 5.2, 5.3, 85.0, 99.0, 94.0)}
ATOMS = [("Hf", 0.276, 0.04, 0.208), ("O", 0.074, 0.332, 0.347), ("O", 0.449, 0.758, 0.48)]
# Inversion and the screw axis of P 2_1/c.
FRACTIONAL = np.array(
    [
        image
        for _, x, y, z in ATOMS
        for image in ((x, y, z), (-x, -y, -z), (-x, y + 0.5, 0.5 - z), (x, 0.5 - y, z + 0.5))
    ]
)
SYMBOLS = [symbol for symbol, *_ in ATOMS for _ in range(4)]
MGO = "MgO\n1.0\n0 2.106 2.106\n2.106 0 2.106\n2.106 2.106 0\nMg O\n1 1\nDirect\n0 0 0\n0.5 0.5 0.5\n"


def cif(cell) -> str:
    names = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    lines = ["data_HfO2", "_space_group_name_H-M_alt 'P 1'"]
    lines += [f"_cell_{name} {value}" for name, value in zip(names, cell, strict=True)]
    columns = ("label", "type_symbol", "fract_x", "fract_y", "fract_z")
    lines += ["loop_", *(f"_atom_site_{name}" for name in columns)]
    lines += [f"{s}{n} {s} {x} {y} {z}" for n, (s, (x, y, z)) in enumerate(zip(SYMBOLS, FRACTIONAL, strict=True))]
    return "\n".join(lines) + "\n"


def poscar(matrix) -> str:
    rows = [" ".join(map(repr, row)) for row in np.asarray(matrix).tolist()]
    sites = [" ".join(map(repr, row)) for row in FRACTIONAL.tolist()]
    return "\n".join(["HfO2", "1.0", *rows, "Hf O", "4 8", "Direct", *sites]) + "\n"


def random_rotation() -> np.ndarray:
    rotation, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    return rotation * np.sign(np.linalg.det(rotation))


@pytest.mark.parametrize("system", CELLS)
def test_a_cif_has_the_frame_of_pymatgen_and_tensors_turn_with_the_frame(program, tmp_path, system):
    """The same crystal as CIF and as POSCAR in another frame: lattice vectors say how they are turned."""
    matrix = Lattice.from_parameters(*CELLS[system]).matrix
    turned = matrix @ random_rotation().T
    (tmp_path / "a.cif").write_text(cif(CELLS[system]))
    (tmp_path / "b.vasp").write_text(poscar(turned))
    result = program("predict", tmp_path / "a.cif", tmp_path / "b.vasp", "--json")
    assert result.exit_code == 0, result.stderr
    from_cif, from_poscar = json.loads(result.stdout)["crystals"]
    np.testing.assert_allclose(from_cif["lattice_vectors"], matrix, atol=1e-9)
    np.testing.assert_allclose(from_poscar["lattice_vectors"], turned, atol=1e-9)
    # Rows are lattice vectors: cell_cif = cell_poscar @ R^T.
    rotation = (np.linalg.inv(from_poscar["lattice_vectors"]) @ from_cif["lattice_vectors"]).T
    for target in ("electronic", "ionic", "total"):
        tensor, other = (np.array(crystal["tensors"][target]["tensor"]) for crystal in (from_cif, from_poscar))
        np.testing.assert_allclose(tensor, rotation @ other @ rotation.T, atol=1e-3)
        assert np.abs(tensor - other).max() > 0.1


@pytest.mark.parametrize("command", ["predict", "screen"])
def test_help_says_which_frame_a_cif_gets(program, command):
    said = " ".join(program(command, "--help").stdout.split())
    assert "A CIF gives no such frame: c is along z, and a in the plane of x and z, as in pymatgen." in said


@pytest.fixture(scope="module")
def screened(program, tmp_path_factory, labelled):
    """The folder of a screening of MgO and of labelled crystals, and what was printed."""
    folder, output = tmp_path_factory.mktemp("input"), tmp_path_factory.mktemp("output")
    # mp-441 is the id of a bundled crystal, but not of MgO.
    (folder / "mp-441.vasp").write_text(MGO)
    assert any(crystal.id == "mp-441" for crystal in labelled)
    for number, crystal in enumerate(c for c in labelled if c.formula in ("HfO2", "KTaO3")):
        # In a supercell, in another frame.
        positions = np.concatenate([crystal.positions, crystal.positions + crystal.cell[2]]) @ random_rotation().T
        cell = np.diag([1, 1, 2]) @ crystal.cell @ random_rotation().T
        row = {
            "id": f"mine-{number}",
            "lattice_angstrom": cell.tolist(),
            "atomic_numbers": np.tile(crystal.atomic_numbers, 2).tolist(),
            "frac_coords": (positions @ np.linalg.inv(cell)).tolist(),
        }
        (folder / f"mine-{number}.jsonl").write_text(json.dumps(row))
    result = program("screen", folder, "--output", output, "--rank-duplicates", "--rank-unreliable")
    assert result.exit_code == 0, result.stderr
    return folder, output, result.stdout


def ranking(output):
    with (output / "ranking.csv").open(newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def test_the_dagger_marks_the_same_crystal_not_the_same_name(screened):
    _, output, printed = screened
    rows = ranking(output)
    assert {id: row["labelled"] for id, row in rows.items()} == {
        "mp-441": "false",
        "mine-0": "true",
        "mine-1": "true",
    }
    (line,) = [line for line in printed.splitlines() if " mp-441 " in line]
    assert "†" not in line
    assert "mine-0 †" in printed
    assert "† known from DFPT: has the structure of one of the 955 bundled labelled crystals" in printed
    table = parquet.read_table(output / "part-000000-0000.parquet").to_pydict()
    assert dict(zip(table["id"], table["labelled"], strict=True)) == {"mp-441": False, "mine-0": True, "mine-1": True}


def test_every_table_has_the_error_bars_of_mean_and_tensor(screened, program):
    folder, output, printed = screened
    crystals = {c.id: c for path in sorted(folder.iterdir()) for c in read_crystals(path)}
    model = DTNN.from_pretrained("dielectric")
    rows = ranking(output)
    table = parquet.read_table(output / "part-000000-0000.parquet")
    of_parquet = {row["id"]: row for row in table.to_pylist()}
    shown = json.loads(program("predict", folder, "--json").stdout)
    of_json = {crystal["id"]: crystal for crystal in shown["crystals"]}
    text = program("predict", folder).stdout
    for id, crystal in crystals.items():
        np.testing.assert_allclose(of_parquet[id]["lattice_vectors"], crystal.cell, atol=1e-12)
        for target in model.targets:
            _, (tensor_error,) = model.predict_with_errors(crystal, target)
            (mean,), (mean_error,) = model.predict_mean_with_errors(crystal, target)
            for row in (rows[id], of_parquet[id]):
                assert float(row[f"{target}_mean"]) == pytest.approx(mean, rel=1e-3)
                assert float(row[f"{target}_mean_error"]) == pytest.approx(mean_error, rel=2e-3, abs=1e-3)
                assert float(row[f"{target}_tensor_error"]) == pytest.approx(tensor_error, rel=2e-3, abs=1e-3)
            values = of_json[id]["tensors"][target]
            assert values["mean_error"] == pytest.approx(mean_error, rel=2e-3, abs=1e-3)
            assert values["tensor_error"] == pytest.approx(tensor_error, rel=2e-3, abs=1e-3)
            assert f"mean {values['mean']:.3f} ± {values['mean_error']:.3f}" in text
            assert f"] ± {values['tensor_error']:.3f}   principal values" in text
            # Not those of ranking.csv, which are rounded: rounded twice, 0.8452 is 0.84.
            mean_of_row, error_of_row = (of_parquet[id][f"{target}_{name}"] for name in ("mean", "mean_error"))
            assert f"{mean_of_row:.2f} ± {error_of_row:.2f}" in printed
    assert "tensor error" in printed
    assert "Error bars hold for nine of ten crystals kept out of training" in printed
    assert "± error bars hold for nine of ten crystals kept out of training" in text
    for name, word in (("mean_error", "mean"), ("tensor_error", "six elements")):
        assert word in shown[name]
        assert word in table.schema.field(f"total_{name}").metadata[b"description"].decode()
    assert b"c is along z" in table.schema.field("lattice_vectors").metadata[b"description"]
    assert table.schema.field("lattice_vectors").metadata[b"unit"] == b"Angstrom"


def test_a_model_without_error_bars_shows_none(program, screened, tiny_model, tmp_path):
    folder, _, _ = screened
    result = program("screen", folder, "--model", tiny_model, "--output", tmp_path)
    assert "±" not in result.stdout
    assert "tensor error" not in result.stdout
    assert not [name for name in next(iter(ranking(tmp_path).values())) if "error" in name]
    assert "±" not in program("predict", folder, "--model", tiny_model).stdout

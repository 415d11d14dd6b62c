# SPDX-License-Identifier: MIT
"""`dtnn-fast dfpt`: inputs from files and screenings, collected results, exit codes, and what it refuses."""

import csv

import numpy as np
import pytest
from vasp_examples import vasprun

from dtnn_fast.cli.training_inputs import load_training_data
from dtnn_fast.crystals.elements import SYMBOLS
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.dfpt.predicted import read_plan
from dtnn_fast.formats import write_packed
from dtnn_fast.formats.reading import read_crystals

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
CRYSTALS = [crystal for crystal in load_labelled() if crystal.num_atoms <= 6][:4]
ELEMENTS = (("xx", 0, 0), ("yy", 1, 1), ("zz", 2, 2), ("yz", 1, 2), ("xz", 0, 2), ("xy", 0, 1))


def row_of_screening(crystal):
    row = {
        "id": crystal.id,
        "formula": crystal.formula,
        "lattice_vectors": crystal.cell.tolist(),
        "species_at_sites": [SYMBOLS[z] for z in crystal.atomic_numbers.tolist()],
        "cartesian_site_positions": crystal.positions.tolist(),
    }
    for target, tensor in crystal.targets.items():
        row |= {f"{target}_{name}": float(tensor[i, j]) for name, i, j in ELEMENTS}
        row[f"{target}_mean_error"] = 0.5
    return row


@pytest.fixture
def screening(tmp_path):
    folder = tmp_path / "screening"
    folder.mkdir()
    for number, part in enumerate((CRYSTALS[:2], CRYSTALS[2:])):
        rows = [row_of_screening(crystal) for crystal in part]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"part-00000{number}-0000.parquet")
    with (folder / "ranking.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["rank", "id", "formula"], *([k, c.id, c.formula] for k, c in enumerate(CRYSTALS[::-1], 1))])
    return folder


def test_the_best_of_a_screening_keep_their_predictions(program, screening, tmp_path):
    result = program("dfpt", screening, "--top", 2, "-o", tmp_path / "calc")
    assert result.exit_code == 0, result.stderr
    plan = list(read_plan(tmp_path / "calc").values())
    assert [one.crystal.id for one in plan] == [CRYSTALS[3].id, CRYSTALS[2].id]
    for one, crystal in zip(plan, CRYSTALS[:1:-1], strict=True):
        np.testing.assert_allclose(one.crystal.cell, crystal.cell)
        for target, tensor in crystal.targets.items():
            np.testing.assert_allclose(one.tensors[target], tensor)
        assert one.mean_errors["total"] == 0.5
    assert "2 crystals" in result.stdout


def test_ids_that_are_missing_are_rejected(program, screening, tmp_path):
    result = program("dfpt", screening, "--ids", f"{CRYSTALS[0].id},mp-0", "-o", tmp_path / "calc")
    assert result.exit_code == 3
    assert "no crystal with this id" in result.stderr
    assert [one.crystal.id for one in read_plan(tmp_path / "calc").values()] == [CRYSTALS[0].id]


def test_files_are_predicted_first_and_results_are_collected(program, tiny_model, tmp_path):
    write_packed(tmp_path / "crystals.npz", CRYSTALS, {})
    made = program("dfpt", tmp_path / "crystals.npz", "-o", tmp_path / "calc", "--model", tiny_model, "--threads", 1)
    assert made.exit_code == 0, made.stderr
    plan = read_plan(tmp_path / "calc")
    assert len(plan) == 4
    assert all(set(one.tensors) == {"electronic", "ionic", "total"} for one in plan.values())

    nothing = program("dfpt", "--collect", tmp_path / "calc")
    assert nothing.exit_code == 2
    assert nothing.stderr.count("not calculated yet") == 4
    for name, crystal in list(zip(plan, CRYSTALS, strict=True))[:3]:
        text = vasprun(crystal, crystal.targets["electronic"], crystal.targets["ionic"])
        (tmp_path / "calc" / name / "dielectric" / "vasprun.xml").write_text(text)
    some = program("dfpt", "--collect", tmp_path / "calc")
    assert some.exit_code == 3
    assert CRYSTALS[0].formula in some.stdout
    labels = read_crystals(tmp_path / "calc" / "labels.jsonl")
    assert [label.id for label in labels] == [crystal.id for crystal in CRYSTALS[:3]]
    rows = list(csv.DictReader((tmp_path / "calc" / "comparison.csv").open()))
    for row, one, crystal in zip(rows, plan.values(), CRYSTALS, strict=False):
        assert float(row["total_xx_predicted"]) == pytest.approx(one.tensors["total"][0, 0])
        assert float(row["total_xx_computed"]) == pytest.approx(crystal.targets["total"][0, 0], abs=1e-5)


def test_train_reads_the_labels(program, tiny_model, tmp_path):
    write_packed(tmp_path / "crystals.npz", CRYSTALS, {})
    program("dfpt", tmp_path / "crystals.npz", "-o", tmp_path / "calc", "--model", tiny_model, "--threads", 1)
    for name, crystal in zip(read_plan(tmp_path / "calc"), CRYSTALS, strict=True):
        text = vasprun(crystal, crystal.targets["electronic"], crystal.targets["ionic"])
        (tmp_path / "calc" / name / "dielectric" / "vasprun.xml").write_text(text)
    assert program("dfpt", "--collect", tmp_path / "calc", "-o", tmp_path / "labels.jsonl").exit_code == 0
    labels, rejected = load_training_data([tmp_path / "labels.jsonl"], ("electronic", "ionic", "total"), True)
    assert not rejected
    assert [label.id for label in labels] == [crystal.id for crystal in CRYSTALS]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dfpt",), "expected the folder of a screening, files, or --collect"),
        (("dfpt", "SCREENING"), "expected a folder for the inputs"),
        (("dfpt", "SCREENING", "-o", "x"), "expected --ids or --top"),
        (("dfpt", "SCREENING", "-o", "x", "--ids", "a", "--top", "2"), "got both"),
        (("dfpt", "SCREENING", "-o", "x", "--ids", ","), "got none"),
        (("dfpt", "SCREENING", "-o", "SCREENING", "--top", "2"), "missing or empty folder"),
        (("dfpt", "SCREENING", "-o", "x", "--ids", "nothing"), "no inputs were written"),
        (("dfpt", "missing.cif", "-o", "x"), "no inputs were written"),
        (("dfpt", "missing.cif", "-o", "x", "--top", "3"), "needs the folder of a screening"),
        (("dfpt", "SCREENING", "--collect", "x"), "cannot be combined with SCREENING"),
        (("dfpt", "--collect", "SCREENING"), "dfpt.json: missing"),
        (("dfpt", "--collect", "SCREENING", "-o", "a.csv"), "ends in .jsonl"),
    ],
)
def test_what_cannot_be_done_is_an_error(program, screening, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = program(*(str(screening) if argument == "SCREENING" else argument for argument in arguments))
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "x").exists()


def test_damaged_parts_are_named(program, screening, tmp_path):
    (screening / "part-000000-0000.parquet").write_bytes(b"PAR1 no more")
    result = program("dfpt", screening, "--top", 1, "-o", tmp_path / "calc")
    assert result.exit_code == 2
    assert "cannot be read" in result.stderr
    pq.write_table(pa.Table.from_pylist([{"id": "a"}]), screening / "part-000000-0000.parquet")
    (screening / "part-000001-0000.parquet").unlink()
    result = program("dfpt", screening, "--ids", "a", "-o", tmp_path / "calc")
    assert result.exit_code == 2
    assert "lack the columns lattice_vectors" in result.stderr

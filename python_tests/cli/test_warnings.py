# SPDX-License-Identifier: MIT
"""Warnings stand in every output of predict and screen, and unreliable crystals never lead a ranking unmarked."""

import csv
import json

import numpy as np
import pytest
from bonding_examples import fcc_metal, lone_atom, magnesia_slab, methane, molybdenite, rock_salt, scaled
from pyarrow import parquet

# Tetragonal ZrO2 with the atoms of the second origin and the operations of the first.
WRONG_ORIGIN = """tZrO2
1.0
3.595 0 0
0 3.595 0
0 0 5.185
Zr O
2 4
Direct
0.75 0.25 0.75
0.25 0.75 0.25
0.25 0.25 0.4561
0.25 0.25 0.5439
0.25 0.25 0.9561
0.25 0.25 0.0439
"""
UNRELIABLE = {
    "aluminium": fcc_metal(13, 4.05),
    "copper": fcc_metal(29, 3.61),
    "atom": lone_atom(),
    "methane": methane(),
    "slab": magnesia_slab(),
    "layer": molybdenite(gap=20.0),
    "bohr": scaled(rock_salt(), 1.8897),
}


def row(name, crystal):
    fractional = crystal.positions @ np.linalg.inv(crystal.cell)
    return {
        "id": name,
        "lattice_angstrom": crystal.cell.tolist(),
        "atomic_numbers": crystal.atomic_numbers.tolist(),
        "frac_coords": fractional.tolist(),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crystals")
    crystals = {**UNRELIABLE, "magnesia": rock_salt(), "salt": rock_salt(11, 17, 5.64)}
    rows = [row(name, crystal) for name, crystal in crystals.items()] + [row("half", scaled(rock_salt(), 0.5))]
    (folder / "crystals.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "zirconia.vasp").write_text(WRONG_ORIGIN)
    return folder


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_screen(program, folder, tmp_path):
    output = tmp_path / "out"
    result = program("screen", folder, "--output", output)
    assert result.exit_code == 3
    ranking = table(output / "ranking.csv")
    assert {record["id"] for record in ranking} == {"magnesia", "salt"}
    assert all(record["warnings"] == record["warning_codes"] == "" for record in ranking)
    unranked = table(output / "unranked.csv")
    assert {record["id"] for record in unranked} == UNRELIABLE.keys()
    assert all(set(record["why_not_ranked"].split()) <= set(record["warning_codes"].split()) for record in unranked)
    assert all(record["why_not_ranked"] and record["warnings"] for record in unranked)
    reasons = {record["id"]: record["reason"] for record in table(output / "rejected.csv")}
    assert "atoms 2 (O) and 3 (O), counted from 0, are 0.455 Angstrom apart" in reasons["zirconia"]
    assert "bonds are about 0.51 times the usual length" in reasons["half"]

    by_id = {record["id"]: record for record in parquet.read_table(output / "part-000000-0000.parquet").to_pylist()}
    assert {record["id"]: record["warnings"] for record in [*ranking, *unranked]} == {
        name: record["warnings"] for name, record in by_id.items()
    }
    assert by_id["methane"]["warning_codes"].split()[0] == "gap"
    assert by_id["copper"]["warnings"].split("; ")[:2] == [
        "made of metals only: most such crystals are metals, which have no dielectric constant",
        "a pure element: few training crystals are pure elements",
    ]

    assert "!" not in result.stdout
    printed = " ".join(result.stdout.split())
    assert "7 crystals are not ranked (listed in unranked.csv): " in printed
    assert "a slab, wires or molecules with a gap wider than the cutoff of the model: 3" in printed
    assert json.loads((output / "summary.json").read_text())["warnings"]["gap"] == 3


def test_screen_with_unreliable_crystals_among_the_others(program, folder, tmp_path):
    result = program("screen", folder, "--output", tmp_path, "--rank-unreliable")
    ranking = table(tmp_path / "ranking.csv")
    means = [float(record["total_mean"]) for record in ranking]
    assert means == sorted(means, reverse=True)
    assert ranking[0]["id"] in {"aluminium", "copper"}
    lines = [line.split() for line in result.stdout.splitlines()]
    marked = {words[1] for words in lines if len(words) > 2 and words[2] == "!"}
    assert marked == UNRELIABLE.keys()
    assert f"1  {ranking[0]['id']} !" in result.stdout
    assert "! made of metals only: rank" in result.stdout
    assert "not ranked" not in result.stdout


def test_predict(program, folder):
    result = program("predict", folder / "crystals.jsonl")
    blocks = {block.split()[0]: block for block in result.stdout.split("\n\n") if block.strip()}
    assert "warning:" not in blocks["magnesia"]
    for name in UNRELIABLE:
        assert "\n  warning: " in blocks[name]
    assert "  warning: molecules or clusters more than 5 Angstrom apart" in blocks["methane"]


def test_predict_as_json(program, folder):
    record = json.loads(program("predict", folder / "crystals.jsonl", "--json").stdout)
    crystals = {crystal["id"]: crystal for crystal in record["crystals"]}
    assert crystals["salt"]["warnings"] == crystals["salt"]["warning_codes"] == []
    assert "metals_only" in crystals["copper"]["warning_codes"]
    assert len(crystals["copper"]["warnings"]) == len(crystals["copper"]["warning_codes"])
    assert any("layers or a slab" in text for text in crystals["slab"]["warnings"])

# SPDX-License-Identifier: MIT
"""`dtnn-fast predict` adds what lattice dynamics says, with the bundled models."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.datasets.textbook_crystals import load_textbook
from dtnn_fast.formats import write_packed


@pytest.fixture(scope="module")
def crystals(tmp_path_factory):
    path = tmp_path_factory.mktemp("refined") / "textbook.npz"
    chosen = [one.crystal for one in load_textbook() if one.crystal.id in ("Si", "MgO", "SrTiO3")]
    write_packed(path, chosen, {})
    return path


def test_the_json_has_the_refined_tensors(program, crystals):
    result = program("predict", crystals, "--json", "--threads", 1)
    assert result.exit_code == 0, result.stderr
    entries = {entry["id"]: entry for entry in json.loads(result.stdout)["crystals"]}
    for entry in entries.values():
        refined = entry["refined"]
        electronic = np.array(entry["tensors"]["electronic"]["tensor"])
        np.testing.assert_allclose(np.array(refined["total"]) - refined["ionic"], electronic, atol=1e-3)
        assert refined["total_mean_error"] > 0
    assert np.count_nonzero(entries["Si"]["refined"]["ionic"]) == 0
    assert entries["MgO"]["refined"]["ionic_mean"] == pytest.approx(7.56, rel=0.15)
    assert not entries["MgO"]["refined"]["nearly_ferroelectric"]
    titanate = entries["SrTiO3"]["refined"]
    assert titanate["nearly_ferroelectric"]
    assert titanate["ionic_mean"] > 60
    assert len(titanate["frequencies_thz"]) == 3 * entries["SrTiO3"]["num_atoms"] - 3


def test_the_text_has_a_line(program, crystals):
    result = program("predict", crystals, "--threads", 1)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("  refined    ionic mean") == 3
    assert "warning: close to a ferroelectric instability" in result.stdout
    plain = program("predict", crystals, "--threads", 1, "--no-refine")
    assert "refined" not in plain.stdout


COPPER = Crystal.from_fractional("Cu", [29], [[0, 0, 0]], 1.8 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]))


def test_what_is_not_refined_is_said(program, tmp_path):
    metals = [replace(COPPER, id="first"), replace(COPPER, id="second")]
    write_packed(tmp_path / "mixed.npz", [*metals, load_textbook()[0].crystal], {})
    result = program("predict", tmp_path, "--threads", 1)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("  not refined: made of metals only") == 2
    assert result.stdout.count("  refined    ionic mean") == 1
    assert result.stderr.count("not refined:") == 1
    assert "(first): made of metals only" in result.stderr
    assert "(and 1 more crystal)" in result.stderr
    content = json.loads(program("predict", tmp_path, "--json", "--threads", 1).stdout)
    assert ["not_refined" in entry for entry in content["crystals"]] == [True, True, False]
    assert "not refined" not in program("predict", tmp_path, "--threads", 1, "--no-refine").stderr


def test_many_crystals_are_not_refined_and_this_is_said(program, crystals, monkeypatch):
    monkeypatch.setattr("dtnn_fast.cli.predict.MOST_REFINED", 2)
    result = program("predict", crystals, "--json", "--threads", 1)
    assert all("refined" not in entry for entry in json.loads(result.stdout)["crystals"])
    assert "not refined: more than 2 crystals; dtnn-fast refine" in result.stderr
    assert "not refined" not in program("predict", crystals, "--threads", 1, "--no-refine").stderr


def test_skipped_files_are_named(program, tmp_path):
    write_packed(tmp_path / "silicon.npz", [load_textbook()[1].crystal], {})
    (tmp_path / "notes.txt").write_text("no crystal")
    result = program("predict", tmp_path, "--threads", 1, "--no-refine")
    assert f"skipped 1 file of unknown format, such as {tmp_path / 'notes.txt'}" in result.stderr


def test_nothing_predicted_is_an_empty_result(program, tmp_path):
    (tmp_path / "broken.cif").write_text("data_x\n_cell_length_a nonsense\n")
    output = tmp_path / "out.json"
    result = program("predict", tmp_path / "broken.cif", "--json", "-o", output, "--threads", 1)
    assert result.exit_code == 2
    assert "nothing could be predicted" in result.stderr
    content = json.loads(result.stdout)
    assert content["crystals"] == []
    assert len(content["rejected"]) == 1
    assert json.loads(output.read_text()) == content


def test_other_models_are_not_refined(program, crystals):
    result = program("predict", crystals, "--json", "--threads", 1, "--model", "dielectric-total")
    assert all("refined" not in entry for entry in json.loads(result.stdout)["crystals"])

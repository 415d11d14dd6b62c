# SPDX-License-Identifier: MIT
"""`dtnn-fast predict` adds what lattice dynamics says, with the bundled models."""

from __future__ import annotations

import json

import numpy as np
import pytest

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


def test_other_models_are_not_refined(program, crystals):
    result = program("predict", crystals, "--json", "--threads", 1, "--model", "dielectric-total")
    assert all("refined" not in entry for entry in json.loads(result.stdout)["crystals"])

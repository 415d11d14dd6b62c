# SPDX-License-Identifier: MIT
"""`tools/labelled_sets.py` joins published sets, and leaves out the tensors that lattice dynamics contradicts."""

import gzip
import importlib
import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from dtnn_fast.formats import read_packed, write_packed

CELL = [[0.0, 2.1, 2.1], [2.1, 0.0, 2.1], [2.1, 2.1, 0.0]]


@pytest.fixture(scope="module")
def tool():
    return importlib.import_module("labelled_sets")


def line(name, ionic, **more):
    crystal = {"source": "made up", "functional": "PBE", "id": name, "cell": CELL, "atomic_numbers": [12, 8]}
    tensors = {"eps_electronic": np.diag([3.0] * 3).tolist(), "eps_ionic": np.diag([ionic] * 3).tolist()}
    return json.dumps(crystal | {"frac": [[0, 0, 0], [0.5, 0.5, 0.5]]} | tensors | more)


def run(tool, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["labelled_sets.py", *map(str, arguments)])
    tool.main()


def test_dropped_tensors_are_left_out_here_too(tool, monkeypatch, tmp_path, capsys):
    with gzip.open(tmp_path / "made.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join([line("one", 7.0), line("two", 1.4), line("sol", 6.0, functional="PBEsol")]) + "\n")
    run(tool, monkeypatch, tmp_path / "all.npz", tmp_path / "made.jsonl.gz")
    crystals = {crystal.id: crystal for crystal in read_packed(tmp_path / "all.npz").items}
    assert crystals.keys() == {"made/one", "made/two", "made/sol"}
    assert crystals["made/two"].targets.keys() == {"electronic", "ionic", "total"}
    only = {"electronic": crystals["made/two"].targets["electronic"]}
    judged = [crystals["made/one"], replace(crystals["made/two"], targets=only)]
    write_packed(tmp_path / "judged.npz", judged, {})
    capsys.readouterr()
    whole, rest = tmp_path / "whole.npz", tmp_path / "rest.npz"
    run(tool, monkeypatch, rest, "--whole", whole, "--like", tmp_path / "judged.npz", tmp_path / "made.jsonl.gz")
    assert "judged.npz: 1\n" in capsys.readouterr().out
    assert [crystal.id for crystal in read_packed(whole).items] == ["made/one"]
    found = {crystal.id: crystal for crystal in read_packed(rest).items}
    assert found.keys() == {"made/two", "made/sol"}
    assert found["made/two"].targets.keys() == {"electronic"}
    np.testing.assert_array_equal(found["made/two"].targets["electronic"], only["electronic"])
    assert found["made/sol"].targets.keys() == {"electronic", "ionic", "total"}

# SPDX-License-Identifier: MIT
"""`tools/fit_join.py` fits a join for the lattice model, and one for force constants that crystals bring."""

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from model_cases import labelled

from dtnn_fast import LatticeModel
from dtnn_fast.formats import write_packed
from dtnn_fast.refinement.ionic_join import IonicJoin


@pytest.fixture(scope="module")
def tool():
    return importlib.import_module("fit_join")


@pytest.fixture(scope="module")
def crystals():
    """Crystals with half of the lattice model's force constants; the last has none."""
    usable = [crystal for crystal in labelled() if crystal.num_atoms == 2 and crystal.targets["ionic"].max() <= 100]
    small = usable[:40]
    lattice = LatticeModel.from_pretrained("lattice")
    given = zip(small, lattice.predict(small), strict=True)
    halved = [replace(crystal, force_constants=0.5 * one.force_constants) for crystal, one in given]
    return [*halved[:-1], replace(halved[-1], force_constants=None)]


def run(tool, monkeypatch, folder, *options):
    arguments = [str(folder / "held_out.npz"), "--model", "dielectric", "--lattice", "lattice", "--folder", str(folder)]
    monkeypatch.setattr(sys, "argv", ["fit_join.py", *arguments, *options])
    tool.main()


def test_joins_of_lattice_model_and_potential(tool, crystals, tmp_path, monkeypatch, capsys):
    write_packed(tmp_path / "held_out.npz", crystals, {"name": "held_out"})
    run(tool, monkeypatch, tmp_path)
    assert "left out" not in capsys.readouterr().out
    run(tool, monkeypatch, tmp_path, "--potential", "soft", "--softening", "2")
    assert f"left out: {crystals[-1].id}: without force constants" in capsys.readouterr().out
    assert IonicJoin.load(tmp_path) is not None
    assert IonicJoin.load(tmp_path, "soft") is not None
    own, potential = (json.loads((tmp_path / name).read_text()) for name in ("record.json", "record-soft.json"))
    assert own["direct"]["count"] - 1 == potential["direct"]["count"] == len(crystals) - 1
    kept, of_lattice, _, _ = tool.estimate(crystals[:-1], "dielectric", Path("lattice"))
    _, of_potential, _, _ = tool.estimate(crystals[:-1], "dielectric", Path("lattice"), 2.0)
    assert len(kept) == len(crystals) - 1
    # Twice the halved force constants are those of the model.
    np.testing.assert_allclose(of_potential.lattice, of_lattice.lattice, rtol=1e-4, atol=1e-3)
    _, softer, _, _ = tool.estimate(crystals[:-1], "dielectric", Path("lattice"), 1.0)
    assert (softer.softest < of_lattice.softest).sum() > 25

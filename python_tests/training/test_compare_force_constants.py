# SPDX-License-Identifier: MIT
"""`tools/compare_force_constants.py`, where labels are twice the model's force constants, which a potential has."""

import importlib
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from model_cases import labelled

from dtnn_fast import LatticeModel
from dtnn_fast.formats import write_packed
from dtnn_fast.phonons import ionic_tensor
from dtnn_fast.potentials import Potential, PotentialResult
from dtnn_fast.symmetry import with_operations
from dtnn_fast.training.force_frames import ForceFrame, write_force_frames


class Harmonic(Potential):
    """Forces of the labels' force constants; unknown crystals have elements that it does not know."""

    def __init__(self, crystals):
        elements = {z for c in crystals for z in c.atomic_numbers.tolist()}
        super().__init__("harmonic", frozenset(elements))
        self.labels = {tuple(c.atomic_numbers.tolist()): c for c in crystals}

    def evaluate(self, crystals):
        results = []
        for crystal in crystals:
            rest = self.labels[tuple(crystal.atomic_numbers.tolist())]
            moved = (crystal.positions - rest.positions) @ np.linalg.inv(crystal.cell)
            moved = (moved - np.round(moved)) @ crystal.cell
            forces = -(rest.force_constants @ moved.ravel()).reshape(-1, 3)
            results.append(PotentialResult(0.0, forces, np.zeros((3, 3))))
        return results


@pytest.fixture(scope="module")
def crystals():
    """Binary crystals, one of each composition, with twice the model's force constants; one more for a rejection."""
    by_elements = {}
    for crystal in labelled():
        if crystal.num_atoms == 2 and crystal.targets["ionic"].max() < 50:
            by_elements.setdefault(tuple(crystal.atomic_numbers.tolist()), crystal)
    chosen = with_operations(list(by_elements.values())[:20])
    made = []
    for crystal, one in zip(chosen, LatticeModel.from_pretrained("lattice").predict(chosen), strict=True):
        matrix = 2.0 * one.force_constants
        ionic = ionic_tensor(matrix, one.born_charges, float(abs(np.linalg.det(crystal.cell))))
        labels = {"targets": {"ionic": ionic}, "born_charges": one.born_charges, "force_constants": matrix}
        if 0 < ionic.max() < 50:  # a soft one would have no label
            made.append(replace(crystal, **labels))
    return made[:12]


def test_table_of_model_and_potential(crystals, tmp_path, monkeypatch, capsys):
    tool = importlib.import_module("compare_force_constants")
    known = [c for c in crystals if not set(c.atomic_numbers.tolist()) & set(crystals[-1].atomic_numbers.tolist())]
    monkeypatch.setattr(tool, "load_potential", lambda name, dtype: Harmonic(known))
    predicted = replace(crystals[0], id="predicted", info={"force_constants_are_predicted": True})
    write_packed(tmp_path / "a.npz", [*crystals, predicted], {"name": "a"})
    output = tmp_path / "errors.json"
    arguments = [str(tmp_path / "a.npz"), "--lattice", "lattice", "--potential", "harmonic", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["compare_force_constants.py", *arguments])
    tool.main()
    printed = capsys.readouterr().out.splitlines()
    assert len({line.count("|") for line in printed[:4]}) == 1
    # Crystals that the potential does not know are left out for both.
    assert printed[-1] == f"{len(known)} of 12 crystals, {len(known)} with an ionic tensor"
    table = json.loads(output.read_text())
    model, potential = table["lattice model"], table["harmonic"]
    assert model["relative_error"] == pytest.approx(0.5, abs=1e-4)
    assert potential["relative_error"] < 1e-3
    assert potential["frequency_error_thz"] < 1e-2 < model["frequency_error_thz"]
    # Half the stiffness is twice the ionic tensor.
    means = np.mean([np.abs(c.targets["ionic"][np.triu_indices(3)]).mean() for c in known])
    assert model["mae_ten"] == pytest.approx(means, rel=0.1)
    assert potential["mae_ten"] < 0.1 * means


def test_forces_are_compared_with_those_of_a_file(crystals, tmp_path, monkeypatch, capsys):
    pytest.importorskip("ase")
    tool = importlib.import_module("compare_force_constants")
    monkeypatch.setattr(tool, "load_potential", lambda name, dtype: Harmonic(crystals))
    write_packed(tmp_path / "a.npz", crystals, {"name": "a"})
    off = np.array([[0.3, 0.0, 0.0], [0.0, 0.0, 0.0]])
    forces = Harmonic(crystals).forces(crystals)
    frames = [ForceFrame(c, 0.0, one + off) for c, one in zip(crystals, forces, strict=True)]
    write_force_frames(tmp_path / "frames.extxyz", frames)
    arguments = [str(tmp_path / "a.npz"), "--lattice", "lattice", "--potential", "harmonic"]
    arguments += ["--frames", str(tmp_path / "frames.extxyz"), "--output", str(tmp_path / "errors.json")]
    monkeypatch.setattr(sys, "argv", ["compare_force_constants.py", *arguments])
    tool.main()
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].endswith("| forces, eV/Angstrom |")
    assert len({line.count("|") for line in printed[:4]}) == 1
    table = json.loads((tmp_path / "errors.json").read_text())
    assert "forces" not in table["lattice model"]
    assert table["harmonic"]["frames"] == len(crystals)
    assert table["harmonic"]["forces"] == pytest.approx(0.05, abs=1e-6)

# SPDX-License-Identifier: MIT
"""`tools/force_labels.py` labels crystals and crystals made of them, shares the work, and continues."""

import importlib
import sys

import numpy as np
import pytest
from model_cases import small_crystals

from dtnn_fast.errors import BadCrystalError
from dtnn_fast.formats import write_packed
from dtnn_fast.potentials import Potential, PotentialResult
from dtnn_fast.training.force_frames import read_force_frames

pytest.importorskip("ase")


class Counting(Potential):
    """Energies that count atoms; fails on crystals with lithium, and remembers what it was asked for."""

    def __init__(self):
        super().__init__("counting", frozenset(range(1, 84)))
        self.asked = []

    def evaluate(self, crystals):
        if any(3 in crystal.atomic_numbers for crystal in crystals):
            raise BadCrystalError("lithium")
        self.asked += [crystal.id for crystal in crystals]
        return [PotentialResult(float(c.num_atoms), np.zeros((c.num_atoms, 3)), np.zeros((3, 3))) for c in crystals]


@pytest.fixture
def run(tmp_path, monkeypatch):
    tool = importlib.import_module("force_labels")
    potential = Counting()
    monkeypatch.setattr(tool, "load_potential", lambda name, dtype: potential)
    write_packed(tmp_path / "some.npz", small_crystals(12, 4), {})

    def call(output, *more):
        files = [str(tmp_path / output), str(tmp_path / "some.npz")]
        monkeypatch.setattr(sys, "argv", ["tool", *files, "--potential", "x", "--made", "20", *map(str, more)])
        tool.main()
        frames, rejected = read_force_frames([tmp_path / output])
        assert not rejected
        return frames

    call.potential, call.folder = potential, tmp_path
    return call


def test_all_crystals_but_those_that_fail_are_labelled(run, capsys):
    frames = run("all.extxyz")
    assert len(frames) == len({frame.crystal.id for frame in frames}) > 12
    assert all(frame.energy == frame.crystal.num_atoms for frame in frames)
    assert not any(3 in frame.crystal.atomic_numbers for frame in frames)
    assert any("-made-" in frame.crystal.id for frame in frames)
    assert f"{len(frames)} of " in capsys.readouterr().out


def test_parts_share_the_work_and_a_run_continues(run):
    whole = [frame.crystal.id for frame in run("all.extxyz")]
    run.potential.asked.clear()
    assert [frame.crystal.id for frame in run("all.extxyz")] == whole
    assert not run.potential.asked
    parts = [{frame.crystal.id for frame in run(f"{part}.extxyz", "--part", f"{part}/2")} for part in (1, 2)]
    assert parts[0] | parts[1] == set(whole)
    assert not parts[0] & parts[1]


def test_chemical_systems_can_be_left_out(run):
    whole = run("all.extxyz")
    left_out = next(frame for frame in whole if "-made-" not in frame.crystal.id).crystal
    write_packed(run.folder / "kept.npz", [left_out], {})
    rest = run("rest.extxyz", "--without", run.folder / "kept.npz")
    expected = [f.crystal.id for f in whole if f.crystal.chemical_system != left_out.chemical_system]
    assert [frame.crystal.id for frame in rest] == expected

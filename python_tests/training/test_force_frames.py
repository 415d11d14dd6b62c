# SPDX-License-Identifier: MIT
"""Energies and forces are read from the files of other programs; frames without them are named."""

from dataclasses import replace

import numpy as np
import pytest

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.errors import BadFileError
from dtnn_fast.training.force_frames import ForceFrame, frames_digest, read_force_frames, write_force_frames

ase = pytest.importorskip("ase")
pytest.importorskip("ase.io")


def frame(name="one", energy=-7.5, stress=True):
    cell = np.array([[4.0, 0.1, 0.0], [0.0, 4.2, 0.2], [0.3, 0.0, 3.9]])
    crystal = Crystal.make(name, [11, 17], [[0, 0, 0], [2.0, 2.1, 1.9]], cell)
    forces = np.array([[0.1, -0.2, 0.3], [-0.1, 0.2, -0.3]])
    tensor = np.array([[1.0, 0.2, 0.3], [0.2, -2.0, 0.4], [0.3, 0.4, 3.0]]) / 100
    return ForceFrame(crystal, energy, forces, tensor if stress else None)


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "frames.extxyz"
    write_force_frames(path, [frame(), frame("two", stress=False)])
    write_force_frames(path, [frame("three")], append=True)
    found, rejected = read_force_frames([path])
    assert not rejected
    assert [one.crystal.id for one in found] == ["one", "two", "three"]
    assert found[1].stress is None
    for one in (found[0], found[2]):
        given = frame()
        assert one.energy == given.energy
        np.testing.assert_allclose(one.forces, given.forces, atol=1e-8)
        np.testing.assert_allclose(one.stress, given.stress, atol=1e-10)
        np.testing.assert_allclose(one.crystal.positions, given.crystal.positions, atol=1e-8)
        np.testing.assert_allclose(one.crystal.cell, given.crystal.cell, atol=1e-8)
        assert one.crystal.atomic_numbers.tolist() == [11, 17]


def test_frames_that_cannot_be_used_are_named(tmp_path):
    path = tmp_path / "some.extxyz"
    write_force_frames(path, [frame(), frame("huge", energy=np.nan)])
    lines = path.read_text().splitlines()
    bare = ['2\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3 pbc="T T T"', "Na 0 0 0", "Cl 2 2 2"]
    columns = "Properties=species:S:1:pos:R:3:forces:R:3"
    same = [f'2\nLattice="4 0 0 0 4 0 0 0 4" {columns} energy=1 name=overlap pbc="T T T"']
    same += ["Na 0 0 0 0 0 0", "Cl 0 0 0 0 0 0"]
    path.write_text("\n".join([*lines, *bare, *same]) + "\n")
    found, rejected = read_force_frames([path])
    assert [one.crystal.id for one in found] == ["one"]
    reasons = {one.id: one.reason for one in rejected}
    assert reasons["huge"] == "its energy, forces or stress are NaN or infinite"
    assert reasons["some:3"] == "no label: it has no energy and no forces"
    assert "overlap" in reasons


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(BadFileError, match="no such file"):
        read_force_frames([tmp_path / "none.extxyz"])
    with pytest.raises(BadFileError, match="a folder; expected a file of frames"):
        read_force_frames([tmp_path])
    (tmp_path / "bad.extxyz").write_text("this is no XYZ file\n")
    with pytest.raises(BadFileError, match=r"bad.extxyz: ASE cannot read it: "):
        read_force_frames([tmp_path / "bad.extxyz"])


def test_the_fingerprint_tells_labels_apart():
    one, two = frame(), frame("two")
    assert frames_digest([one, two]) == frames_digest([two, one])
    others = [frame(energy=-7.4), frame(stress=False), replace(one, forces=one.forces + 1e-9)]
    assert len({frames_digest([other]) for other in [one, *others]}) == 4

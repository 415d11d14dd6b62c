# SPDX-License-Identifier: MIT
"""Crystal systems found by spglib equal the published ones."""

from dataclasses import replace

import numpy as np
import pytest
from crystal_examples import ONE_OF_EACH_SYSTEM, SYSTEM_IDS

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.errors import BadCrystalError, MissingPackageError
from dtnn_fast.symmetry import crystal_system, crystal_system_of_group, space_group_number


@pytest.mark.parametrize("crystal", ONE_OF_EACH_SYSTEM, ids=SYSTEM_IDS)
def test_crystal_systems(crystal):
    assert crystal_system(crystal) == crystal.info["crystal_system"]


def test_published_systems():
    """The published groups were found with other settings, so a few crystals near a higher symmetry may differ."""
    crystals = load_labelled()[::10]
    same = sum(crystal_system(crystal) == crystal.info["crystal_system"] for crystal in crystals)
    assert same >= 0.98 * len(crystals)


@pytest.mark.parametrize(
    ("group", "system"),
    [
        (1, "triclinic"),
        (2, "triclinic"),
        (3, "monoclinic"),
        (74, "orthorhombic"),
        (75, "tetragonal"),
        (142, "tetragonal"),
        (143, "trigonal"),
        (167, "trigonal"),
        (168, "hexagonal"),
        (195, "cubic"),
        (230, "cubic"),
    ],
)
def test_crystal_system_of_group(group, system):
    assert crystal_system_of_group(group) == system


@pytest.mark.parametrize("group", [0, -1, 231])
def test_no_such_group(group):
    with pytest.raises(ValueError, match=f"1 to 230, got {group}"):
        crystal_system_of_group(group)


def test_two_atoms_at_one_place_have_no_system():
    crystal = Crystal.make("x", [1, 1], np.zeros((2, 3)), np.eye(3) * 3)
    assert space_group_number(crystal) is None
    assert crystal_system(crystal) == "unknown"


def test_bad_cells_are_rejected_before_spglib():
    crystal = ONE_OF_EACH_SYSTEM[0]
    with pytest.raises(BadCrystalError, match="NaN"):
        crystal_system(replace(crystal, positions=crystal.positions * np.nan))
    with pytest.raises(BadCrystalError, match="no volume"):
        crystal_system(replace(crystal, cell=np.zeros((3, 3))))


def test_without_spglib(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "spglib", None)
    with pytest.raises(MissingPackageError, match=r"dtnn-fast\[io\]"):
        crystal_system(ONE_OF_EACH_SYSTEM[0])

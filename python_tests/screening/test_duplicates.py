# SPDX-License-Identifier: MIT
"""Crystals of one composition with the structure of an earlier one."""

from dataclasses import replace

import numpy as np
from pymatgen.analysis.structure_matcher import StructureMatcher

from dtnn_fast.crystals import Crystal
from dtnn_fast.screening.duplicates import find_duplicates

ROCKSALT = Crystal.from_fractional("MgO", [12, 8], [[0, 0, 0], [0.5, 0.5, 0.5]], 2.1 * (1 - np.eye(3)))
CESIUM_CHLORIDE = Crystal.from_fractional("MgO-B2", [12, 8], [[0, 0, 0], [0.5, 0.5, 0.5]], 2.6 * np.eye(3))


def scaled(crystal, factor):
    return replace(crystal, positions=factor * crystal.positions, cell=factor * crystal.cell)


def supercell(crystal):
    cell = np.diag([1, 1, 2]) @ crystal.cell
    positions = np.concatenate([crystal.positions + 0.3, crystal.positions + 0.3 + crystal.cell[2]])
    return Crystal.make("super", np.tile(crystal.atomic_numbers, 2), positions, cell)


def test_the_first_one_is_named_whatever_the_cell():
    crystals = [ROCKSALT, CESIUM_CHLORIDE, supercell(ROCKSALT), scaled(ROCKSALT, 1.005), supercell(CESIUM_CHLORIDE)]
    assert find_duplicates(crystals) == [None, None, 0, 0, 1]


def test_another_volume_is_another_crystal():
    assert find_duplicates([ROCKSALT, scaled(ROCKSALT, 1.05)]) == [None, None]


def test_a_failing_comparison_loses_nothing(monkeypatch):
    def fail(*arguments):
        raise ZeroDivisionError

    monkeypatch.setattr(StructureMatcher, "fit", fail)
    assert find_duplicates([ROCKSALT, ROCKSALT]) == [None, None]


def test_no_crystals():
    assert find_duplicates([]) == []

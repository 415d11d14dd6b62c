# SPDX-License-Identifier: MIT
"""The cost of a prediction is linear in the atoms of the cell, all but the model itself, and the benchmark shows it."""

from __future__ import annotations

import subprocess
import sys
import time

import large_cells
import numpy as np
import pytest

from dtnn_fast import DTNN
from dtnn_fast.crystals.checks import check_crystals
from dtnn_fast.crystals.structure_index import pair_distribution
from dtnn_fast.datasets.bundled import labelled_index
from dtnn_fast.numpy import neighbor_list
from dtnn_fast.screening.crystal_warnings import structure_warnings
from dtnn_fast.symmetry import find_forbidden_ionic_responses, known_crystal_system


@pytest.fixture(scope="module")
def model():
    return DTNN.from_pretrained("dielectric")


def seconds(function, crystal):
    start = time.perf_counter()
    function(crystal)
    return time.perf_counter() - start


def test_quartz_is_quartz():
    quartz = large_cells.supercell("quartz", 9)
    first, second, lengths = neighbor_list("ijd", quartz.positions, 1.7, quartz.cell, True)
    assert set(zip(quartz.atomic_numbers[first], quartz.atomic_numbers[second], strict=True)) == {(14, 8), (8, 14)}
    np.testing.assert_array_equal(np.bincount(first), [4] * 3 + [2] * 6)
    np.testing.assert_allclose(lengths, 1.61, atol=0.01)


@pytest.mark.parametrize("structure", large_cells.STRUCTURES)
def test_supercells(structure):
    unit_cell, large = (large_cells.supercell(structure, size) for size in (1, 2000))
    assert abs(large.num_atoms / 2000 - 1) < 0.15
    assert check_crystals([unit_cell, large]) == [None, None]
    lengths = np.linalg.norm(large.cell, axis=1)
    assert lengths.max() < 1.6 * lengths.min()
    if structure != "amorphous":
        # A supercell has the distances of its unit cell.
        np.testing.assert_allclose(pair_distribution(large), pair_distribution(unit_cell), atol=1e-9)


@pytest.mark.parametrize("structure", ["MgO", "amorphous"])
def test_ten_times_the_atoms_cost_ten_times_as_much(structure, model):
    """All that is done about a crystal besides the model; three times linear leaves room for caches and other jobs."""
    small, large = (large_cells.supercell(structure, size) for size in (2000, 20_000))
    steps = {
        "check": lambda crystal: check_crystals([crystal], model.elements),
        "graph": lambda crystal: model.graph([crystal]),
        "forbidden ionic part": lambda crystal: find_forbidden_ionic_responses([crystal]),
        "crystal system": known_crystal_system,
        "warnings": lambda crystal: structure_warnings([crystal], model),
        "structure": lambda crystal: (labelled_index().find(crystal), pair_distribution(crystal)),
    }
    for name, step in steps.items():
        step(small)
        ratios = []
        # By turns, so that other jobs slow both; the least of some ratios.
        for _ in range(5):
            of_small = min(seconds(step, small) for _ in range(3))
            ratios.append(min(seconds(step, large) for _ in range(2)) / of_small)
            if ratios[-1] <= 3 * large.num_atoms / small.num_atoms:
                break
        assert min(ratios) <= 3 * large.num_atoms / small.num_atoms, name


def heap(num_atoms):
    """A crystal whose fractional positions were taken for Cartesian ones: all atoms within an Angstrom."""
    crystal = large_cells.supercell("amorphous", num_atoms)
    crystal.positions[:] = crystal.positions @ np.linalg.inv(crystal.cell)
    return crystal


def plane(num_atoms):
    """All atoms in one lattice plane, at one place in pairs."""
    crystal = large_cells.supercell("MgO", num_atoms)
    crystal.positions[:, 2] = 0.0
    return crystal


@pytest.mark.parametrize("spoil", [heap, plane])
def test_cells_with_overlapping_atoms_cost_no_more(spoil):
    small, large = spoil(2000), spoil(20_000)
    assert "two atoms at one place" in str(check_crystals([large])[0])
    ratios = [seconds(check_crystals, [large]) / seconds(check_crystals, [small]) for _ in range(5)]
    assert min(ratios) <= 3 * large.num_atoms / small.num_atoms


def test_benchmark_measures_and_draws(tmp_path):
    rows, figure = tmp_path / "rows.csv", tmp_path / "figure.png"
    command = [sys.executable, large_cells.__file__, rows, "--structures", "MgO", "--sizes", "10", "100"]
    run = subprocess.run([*command, "--figure", figure], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    lines = rows.read_text().splitlines()
    assert lines[0] == "structure,atoms,stage,seconds,mebibytes"
    assert [line.split(",")[2] for line in lines[1:]] == 2 * list(large_cells.STAGES)
    assert all(float(line.split(",")[3]) > 0 for line in lines[1:])
    assert figure.read_bytes().startswith(b"\x89PNG")

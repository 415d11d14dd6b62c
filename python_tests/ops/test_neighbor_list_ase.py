# SPDX-License-Identifier: MIT
"""neighbor_list against ASE's: every bundled crystal, random skewed cells, 20,000 atoms.

Bonds within 1e-9 Angstrom of the cutoff are left out of the comparison, because ASE rounds differently there (the
reference implementation decides those, to the bit); everything else must be equal row by row.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from list_cases import Case, ase_bonds, assert_same_bonds, random_case, supercell

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.datasets.bundled import load_labelled, load_structures
from dtnn_fast.ops import neighbor_list

PARTS = 4  # of the bundled crystals, for parallel test runs


@cache
def bundled_crystals() -> list[Crystal]:
    return load_labelled() + load_structures()


def our_bonds(case: Case, half: bool = False) -> np.ndarray:
    bonds = neighbor_list(
        torch.tensor(case.positions), torch.tensor(case.cell), torch.tensor(case.pbc), case.cutoff, half=half
    )
    return torch.cat([bonds.pairs.T, bonds.shifts], dim=1).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("cutoff", [3.0, 6.0])
@pytest.mark.parametrize("part", range(PARTS))
def test_bundled_crystals(cutoff, part):
    crystals = bundled_crystals()
    assert len(crystals) == 6631
    chosen = crystals[part::PARTS]
    ptr = np.cumsum([0, *(crystal.num_atoms for crystal in chosen)])
    bonds = neighbor_list(
        torch.tensor(np.concatenate([crystal.positions for crystal in chosen])),
        torch.tensor(np.stack([crystal.cell for crystal in chosen])),
        torch.tensor(np.stack([crystal.pbc for crystal in chosen])),
        cutoff,
        torch.tensor(ptr),
    )
    rows = torch.cat([bonds.pairs.T, bonds.shifts], dim=1).numpy()
    ends = bonds.row_ptr.numpy()[ptr]
    for b, crystal in enumerate(chosen):
        case = Case(crystal.positions, crystal.cell, crystal.pbc, cutoff)
        ours = rows[ends[b] : ends[b + 1]] - np.array([ptr[b], ptr[b], 0, 0, 0])
        assert_same_bonds(ours, ase_bonds(case), case, crystal.label)


@pytest.mark.parametrize("part", range(3))
def test_random_triclinic_cells(part):
    rng = np.random.default_rng(100 + part)
    for number in range(100):
        case = random_case(rng, number)
        assert_same_bonds(our_bonds(case), ase_bonds(case), case, f"case {number}")


@pytest.mark.slow
def test_20000_atoms():
    crystal = load_labelled()[0]
    rng = np.random.default_rng(0)
    positions, cell = supercell(crystal.positions, crystal.cell, 19)
    positions = rng.permutation(positions + rng.normal(0, 0.05, positions.shape))
    assert len(positions) > 20000
    case = Case(positions, cell, np.ones(3, bool), 6.0)
    assert_same_bonds(our_bonds(case), ase_bonds(case), case, "supercell")

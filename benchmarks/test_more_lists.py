# SPDX-License-Identifier: MIT
"""What is made from neighbor lists, against the searches that it saves: the labelled crystals at 6 Angstrom."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from timing import compare

from dtnn_fast.data.bundled import load_labelled
from dtnn_fast.ops import (
    SkinNeighborList,
    bond_reverses,
    bonds_within,
    nearest_neighbors,
    neighbor_list,
    nested_neighbor_lists,
)

CUTOFF = 6.0
NATIVE = "native"


@pytest.fixture(scope="module")
def batch():
    crystals = load_labelled()
    return {
        "positions": torch.tensor(np.concatenate([crystal.positions for crystal in crystals])),
        "cell": torch.tensor(np.stack([crystal.cell for crystal in crystals])),
        "pbc": torch.tensor([True, True, True]),
        "ptr": torch.tensor(np.cumsum([0, *(crystal.num_atoms for crystal in crystals)])),
    }


def test_bonds_within(batch, benchmark):
    bonds = neighbor_list(**batch, cutoff=CUTOFF)
    positions, cell, ptr = batch["positions"], batch["cell"], batch["ptr"]
    sides = {
        NATIVE: [lambda: bonds_within(positions, cell, *bonds, 4.0, ptr)],
        "a search": [lambda: neighbor_list(**batch, cutoff=4.0)],
    }
    compare(benchmark, "bonds_within, at 4 of 6 Angstrom", sides)


def test_nested(batch, benchmark):
    cutoffs = (3.0, 4.0, CUTOFF)
    sides = {
        NATIVE: [lambda: nested_neighbor_lists(**batch, cutoffs=cutoffs, half=True)],
        "three searches": [lambda: [neighbor_list(**batch, cutoff=cutoff, half=True) for cutoff in cutoffs]],
    }
    compare(benchmark, "nested_neighbor_lists, half, 3, 4 and 6 Angstrom", sides)


def test_reverses(batch, benchmark):
    bonds = neighbor_list(**batch, cutoff=CUTOFF)
    sides = {NATIVE: [lambda: bond_reverses(*bonds)], "a search": [lambda: neighbor_list(**batch, cutoff=CUTOFF)]}
    compare(benchmark, "bond_reverses", sides)


def test_nearest(batch, benchmark):
    sides = {
        NATIVE: [lambda: nearest_neighbors(**batch, k=12)],
        "a search": [lambda: neighbor_list(**batch, cutoff=CUTOFF)],
    }
    compare(benchmark, "nearest_neighbors, k = 12", sides)


def test_skin(batch, benchmark):
    """An update that does not search: atoms have moved by up to 0.1 Angstrom along each axis."""
    lists = SkinNeighborList(CUTOFF, skin=1.0)
    lists.update(**batch)
    moved = batch | {"positions": batch["positions"] + 0.1 * torch.rand_like(batch["positions"])}
    sides = {NATIVE: [lambda: lists.update(**moved)], "a search": [lambda: neighbor_list(**moved, cutoff=CUTOFF)]}
    compare(benchmark, "SkinNeighborList.update without a search", sides)
    assert lists.num_rebuilds == 0

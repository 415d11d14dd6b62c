# SPDX-License-Identifier: MIT
"""An update of a kept list against the search that it saves: the labelled crystals at 6 Angstrom."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from timing import compare

from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.ops import SkinNeighborList, neighbor_list

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


def test_skin(batch, benchmark):
    """An update that does not search: atoms have moved by up to 0.1 Angstrom along each axis."""
    lists = SkinNeighborList(CUTOFF, skin=1.0)
    lists.update(**batch)
    moved = batch | {"positions": batch["positions"] + 0.1 * torch.rand_like(batch["positions"])}
    sides = {NATIVE: [lambda: lists.update(**moved)], "a search": [lambda: neighbor_list(**moved, cutoff=CUTOFF)]}
    compare(benchmark, "SkinNeighborList.update without a search", sides)
    assert lists.num_rebuilds == 0

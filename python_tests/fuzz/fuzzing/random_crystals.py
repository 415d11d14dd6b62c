# SPDX-License-Identifier: MIT
"""Random batches of crystals and their bonds."""

from __future__ import annotations

import random
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from dtnn_fast import ops

from .tensors import any_layout, floating_dtype


def random_cell() -> Tensor:
    """Draw a cubic, triclinic, left-handed or very skewed cell of more than 2 cubic Angstrom."""
    shape = random.random()
    while True:
        cell = torch.randn(3, 3, dtype=torch.float64) * random.choice([1, 3, 6])
        if shape < 0.3:
            cell = torch.eye(3, dtype=torch.float64) * random.uniform(1.3, 8)
        elif shape > 0.8:
            row, column = random.sample(range(3), 2)
            cell[row] += random.randint(-3, 3) * cell[column]
        if torch.linalg.det(cell).abs() > 2:
            return cell


def random_batch() -> dict[str, Any]:
    """Draw arguments of `neighbor_list`: up to 4 crystals, some empty, with ties at the cutoff and atoms outside."""
    counts = [random.choice([0, 1, 1, 2, 3, 7, 15]) for _ in range(random.choice([1, 1, 2, 4]))]
    num_crystals, num_atoms = len(counts), sum(counts)
    dtype = floating_dtype()
    positions = torch.rand(num_atoms, 3, dtype=torch.float64) * random.choice([1, 5, 8])
    if random.random() < 0.3:
        positions = positions.round()
    if random.random() < 0.2 and num_atoms:
        positions[random.randrange(num_atoms)] += torch.randn(3, dtype=torch.float64) * random.choice([10, 1e3, 1e6])
    shared_cell = random.random() < 0.3
    cell = random_cell() if shared_cell else torch.stack([random_cell() for _ in counts])
    shape = (3,) if random.random() < 0.3 else (num_crystals, 3)
    pbc = torch.rand(shape) < random.choice([0, 0.3, 0.7, 1, 1])
    without_ptr = num_crystals == 1 and random.random() < 0.5
    return {
        "positions": any_layout(positions.to(dtype)),
        "cell": any_layout(cell.to(dtype)),
        "pbc": any_layout(pbc),
        "cutoff": random.choice([0.5, 1.0, 2.0, 3.0, 4.0]),
        "ptr": None if without_ptr else any_layout(torch.tensor([0, *accumulate(counts)])),
    }


def random_bonds(half: bool = False) -> tuple[dict[str, Any], ops.NeighborList]:
    """Draw a batch of crystals and make its list."""
    batch = random_batch()
    return batch, ops.neighbor_list(**batch, half=half)

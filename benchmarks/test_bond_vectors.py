# SPDX-License-Identifier: MIT
"""bond_vectors against its twin in eager PyTorch."""

from __future__ import annotations

import pytest
import torch
from timing import compare, forward_and_backward

from dtnn_fast import reference
from dtnn_fast.ops import bond_vectors

BONDS_PER_ATOM = 40


def random_batch(num_crystals: int, atoms_per_crystal: int) -> tuple[torch.Tensor, ...]:
    """positions, cell, pairs, shifts, ptr."""
    total = num_crystals * atoms_per_crystal
    centers = torch.arange(total).repeat_interleave(BONDS_PER_ATOM)
    neighbors = centers - centers % atoms_per_crystal + torch.randint(atoms_per_crystal, centers.shape)
    shifts = torch.randint(-2, 3, (len(centers), 3), dtype=torch.int32)
    ptr = torch.arange(num_crystals + 1) * atoms_per_crystal
    return torch.randn(total, 3), torch.randn(num_crystals, 3, 3), torch.stack([centers, neighbors]), shifts, ptr


@pytest.mark.parametrize("sizes", [(1000, 10), (1, 10_000)])
def test_forward_and_backward(benchmark, sizes):
    batch = random_batch(*sizes)
    native, twin = (forward_and_backward(op, *batch) for op in (bond_vectors, reference.bond_vectors))
    case = f"bond_vectors fwd+bwd 4e5 bonds, {sizes[0]} crystals of {sizes[1]} atoms"
    compare(benchmark, case, native, {"twin": twin})

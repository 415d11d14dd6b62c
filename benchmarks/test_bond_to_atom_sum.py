# SPDX-License-Identifier: MIT
"""bond_to_atom_sum and atom_to_bond_gather against index_add_ / index_select (the twin) and segment_reduce."""

from __future__ import annotations

import pytest
import torch
from timing import compare, forward_and_backward

from dtnn_fast import reference
from dtnn_fast.ops import atom_to_bond_gather, bond_to_atom_sum, neighbor_order

NUM_BONDS, NUM_ATOMS = 400_000, 10_000  # 40 bonds an atom, as crystals have at 5 Angstrom
PAYLOADS = [(128,), (3, 32), (6, 32)]


def crystal_like_graph() -> tuple[torch.Tensor, torch.Tensor]:
    """Bonds of each atom to atoms near it in memory, in ascending order: what batches of crystals look like."""
    generator = torch.Generator().manual_seed(0)
    per_atom = NUM_BONDS // NUM_ATOMS
    centers = torch.arange(NUM_ATOMS).repeat_interleave(per_atom)
    away = torch.randint(-20, 21, (NUM_ATOMS, per_atom), generator=generator).sort(1).values.flatten()
    neighbors = (centers + away).clamp(0, NUM_ATOMS - 1)
    return torch.stack([centers, neighbors]), torch.arange(NUM_ATOMS + 1) * per_atom


PAIRS, ROW_PTR = crystal_like_graph()
BY_NEIGHBOR = neighbor_order(PAIRS, NUM_ATOMS)


@pytest.mark.parametrize("ends", ["center", "neighbor", "difference"])
@pytest.mark.parametrize("payload", PAYLOADS)
def test_sum(benchmark, payload, ends):
    bonds = torch.randn(NUM_BONDS, *payload)
    peers = {"twin": forward_and_backward(lambda x: reference.bond_to_atom_sum(x, PAIRS, ROW_PTR, ends), bonds)}
    if ends == "center":
        peers["segment_reduce"] = forward_and_backward(
            lambda x: torch.segment_reduce(x, "sum", offsets=ROW_PTR, axis=0), bonds
        )
    native = forward_and_backward(lambda x: bond_to_atom_sum(x, PAIRS, ROW_PTR, ends, BY_NEIGHBOR), bonds)
    compare(benchmark, f"bond_to_atom_sum {ends} fwd+bwd [4e5, {payload}]", native, peers)


@pytest.mark.parametrize("ends", ["center", "neighbor", "difference"])
@pytest.mark.parametrize("payload", PAYLOADS)
def test_gather(benchmark, payload, ends):
    atoms = torch.randn(NUM_ATOMS, *payload)
    native = forward_and_backward(lambda x: atom_to_bond_gather(x, PAIRS, ROW_PTR, ends, BY_NEIGHBOR), atoms)
    twin = forward_and_backward(lambda x: reference.atom_to_bond_gather(x, PAIRS, ROW_PTR, ends), atoms)
    compare(benchmark, f"atom_to_bond_gather {ends} fwd+bwd [4e5, {payload}]", native, {"twin": twin})

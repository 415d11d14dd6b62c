# SPDX-License-Identifier: MIT
"""bond_reverses and full_to_half: equal to the reference implementations, and the identities of their maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import check_operator, check_same_bits
from list_cases import random_case

import dtnn_fast
from dtnn_fast import reference
from dtnn_fast.ops import NeighborList, bond_reverses, bond_vectors, full_to_half, neighbor_list

ALL = torch.tensor([True, True, True])


def cases():
    rng = np.random.default_rng(0)
    for number in range(24):
        case = random_case(rng, number, most_bonds=3e3)
        yield tuple(torch.tensor(part) for part in case[:3]), case.cutoff
    # More bonds than one task of the kernel takes, and a skewed cell.
    positions = torch.tensor(rng.uniform(0, 24, (2000, 3)))
    cell = torch.tensor([[24.0, 0, 0], [5, 24, 0], [-7, 11, 24]]).double()
    yield (positions, cell, ALL), 6.0


def batch():
    rng = np.random.default_rng(1)
    crystals = [random_case(rng, 7, most_bonds=3e3) for _ in range(6)]
    return (
        torch.tensor(np.concatenate([case.positions for case in crystals])),
        torch.tensor(np.stack([case.cell for case in crystals])),
        ALL,
        torch.tensor([case.cutoff for case in crystals]).double(),
        torch.tensor([0, *np.cumsum([len(case.positions) for case in crystals])]),
    )


@pytest.mark.parametrize("self_pairs", [False, True])
def test_equals_reference(self_pairs):
    for crystal, cutoff in cases():
        bonds = neighbor_list(*crystal, cutoff, self_pairs=self_pairs)
        reverses = bond_reverses(*bonds)
        assert torch.equal(reverses, reference.bond_reverses(*bonds))
        assert torch.equal(bonds.pairs[:, reverses], bonds.pairs.flip(0))
        assert torch.equal(bonds.shifts[reverses], -bonds.shifts)
        assert torch.equal(reverses[reverses], torch.arange(len(reverses)))


@pytest.mark.parametrize("self_pairs", [False, True])
def test_full_to_half(self_pairs):
    for crystal, cutoff in cases():
        full = neighbor_list(*crystal, cutoff, self_pairs=self_pairs)
        ours, expected = (module.full_to_half(*full) for module in (dtnn_fast.ops, reference))
        half = neighbor_list(*crystal, cutoff, half=True, self_pairs=self_pairs)
        for a, b, c in zip(ours.half, expected.half, half, strict=True):
            assert torch.equal(a, c)
            assert torch.equal(b, c)
        for a, b in zip(ours[1:], expected[1:], strict=True):
            assert a.dtype == b.dtype
            assert torch.equal(a, b)


def test_half_list_values_read_from_both_ends():
    positions, cell, pbc, cutoff, ptr = batch()
    full = neighbor_list(positions, cell, pbc, cutoff, ptr)
    mapping = full_to_half(*full)
    stored = bond_vectors(positions, cell, *mapping.half[:2], ptr)
    read = mapping.direction[:, None] * stored[mapping.half_index]
    torch.testing.assert_close(read, bond_vectors(positions, cell, *full[:2], ptr), rtol=0, atol=0)
    assert (mapping.half_index.bincount() == 2).all()
    assert torch.equal(mapping.half_index[mapping.kept], torch.arange(len(mapping.kept)))


@pytest.mark.parametrize("num_atoms", [0, 1, 5])
def test_empty(num_atoms):
    none = (
        torch.empty(2, 0, dtype=torch.int64),
        torch.empty(0, 3, dtype=torch.int32),
        torch.zeros(num_atoms + 1).long(),
    )
    assert bond_reverses(*none).shape == (0,)
    mapping = full_to_half(*none)
    assert mapping.half.row_ptr.tolist() == [0] * (num_atoms + 1)
    assert mapping.half_index.dtype == torch.int64
    assert mapping.direction.dtype == torch.int8


def test_same_bits_for_any_number_of_threads():
    positions, cell = 40 * torch.rand(4000, 3), 40 * torch.eye(3)
    bonds = neighbor_list(positions, cell, ALL, 6.0)
    check_same_bits(lambda: (bond_reverses(*bonds),))


def test_non_contiguous_inputs():
    bonds = neighbor_list(*batch())
    strided = NeighborList(bonds.pairs.t().contiguous().t(), bonds.shifts.t().contiguous().t(), bonds.row_ptr)
    assert torch.equal(bond_reverses(*strided), bond_reverses(*bonds))


def test_opcheck():
    check_operator(torch.ops.dtnn_fast.bond_reverses.default, *neighbor_list(*batch()))


def test_compiled():
    compiled = torch.compile(full_to_half, fullgraph=True, dynamic=True, backend="aot_eager")
    for num_atoms in (3, 5, 11):
        bonds = neighbor_list(4 * torch.rand(num_atoms, 3), 4 * torch.eye(3), ALL, 4.0)
        ours, expected = compiled(*bonds), full_to_half(*bonds)
        assert torch.equal(ours.half_index, expected.half_index)
        assert torch.equal(ours.half.pairs, expected.half.pairs)


def test_backend_switch():
    bonds = neighbor_list(*batch())
    with dtnn_fast.use_backend("reference"):
        assert torch.equal(bond_reverses(*bonds), full_to_half(*bonds).half_index * 0 + reference.bond_reverses(*bonds))


GOOD = {
    "pairs": torch.tensor([[0, 0, 0, 1], [0, 0, 1, 0]]),
    "shifts": torch.tensor([[-1, 0, 0], [1, 0, 0], [0, 0, 2], [0, 0, -2]], dtype=torch.int32),
    "row_ptr": torch.tensor([0, 3, 4]),
}


def with_shift(bond, shift):
    shifts = GOOD["shifts"].clone()
    shifts[bond] = torch.tensor(shift, dtype=torch.int32)
    return {"shifts": shifts}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pairs": torch.zeros(3, 4).long()}, r"expected `pairs` of shape \[2, E\], got \[3, 4\]"),
        ({"pairs": torch.zeros(2, 4)}, "expected `pairs` of dtype int64, got float32"),
        ({"shifts": torch.zeros(3, 3).int()}, r"expected `shifts` of shape \[E, 3\] with E = 4 as in `pairs`"),
        ({"row_ptr": torch.tensor([], dtype=torch.int64)}, r"expected `row_ptr` of shape \[N\+1\], got \[0\]"),
        ({"row_ptr": torch.tensor([0, 3, 5])}, "expected `row_ptr` from 0 to the number of bonds, 4, got 0 to 5"),
        ({"row_ptr": torch.tensor([0, 5, 4])}, "expected `row_ptr` that never falls, got 5 before 4 at atom 1"),
        ({"row_ptr": torch.tensor([0, 2, 4])}, "sorted by center .*: bond 2 from atom 0 to 1"),
        ({"pairs": torch.tensor([[0, 0, 0, 1], [0, 0, 2, 0]])}, "expected `pairs` with atoms in `row_ptr`: bond 2"),
        ({"pairs": torch.tensor([[0, 0, 0, 1], [0, 0, -1, 0]])}, "expected `pairs` with atoms in `row_ptr`: bond 2"),
        (with_shift(0, [1, 0, 0]), "sorted by center, neighbor and shift, without repeats: bond 1"),
        (with_shift(0, [2, 0, 0]), "sorted by center, neighbor and shift, without repeats: bond 1"),
        (with_shift(1, [2, 0, 0]), r"without a reverse: bond 0 from atom 0 to 0 with shift \[-1, 0, 0\]"),
        (with_shift(3, [0, 0, 2]), r"without a reverse: bond 2 from atom 0 to 1 with shift \[0, 0, 2\]"),
        (with_shift(2, [0, 0, -(2**31)]), "without a reverse: bond 2"),
    ],
)
def test_bad_input(change, message):
    bond_reverses(**GOOD)
    with pytest.raises(RuntimeError, match=f"bond_reverses: .*{message}|bond_reverses: {message}"):
        bond_reverses(**(GOOD | change))


@pytest.mark.parametrize("removed", [0, 1, 100, 20000, -1])
def test_error_names_the_first_bond_without_a_reverse(removed):
    """An earlier bond of the same pair of atoms may have a reverse."""
    positions, cell = 8 * torch.rand(120, 3, generator=torch.Generator().manual_seed(0)), 8 * torch.eye(3)
    full = neighbor_list(positions, cell, ALL, 8.0)
    removed %= full.pairs.shape[1]
    keep = torch.arange(full.pairs.shape[1]) != removed
    row_ptr = full.row_ptr - (full.row_ptr > removed).long()
    partner = int(bond_reverses(*full)[removed])
    partner -= partner > removed
    with pytest.raises(RuntimeError, match=f"without a reverse: bond {partner} "):
        bond_reverses(full.pairs[:, keep], full.shifts[keep], row_ptr)


def test_half_list_is_refused():
    half = neighbor_list(*batch()[:4], ptr=batch()[4], half=True)
    with pytest.raises(RuntimeError, match="without a reverse: bond 0 "):
        bond_reverses(*half)

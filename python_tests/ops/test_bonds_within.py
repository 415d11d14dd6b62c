# SPDX-License-Identifier: MIT
"""bonds_within and nested_neighbor_lists: equal to new lists to the bit, at the same and at other positions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import check_operator, check_same_bits
from list_cases import Case, random_case

import dtnn_fast
from dtnn_fast import reference
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.ops import NeighborList, bonds_within, neighbor_list, nested_neighbor_lists

ALL = torch.tensor([True, True, True])
NAN, INF = float("nan"), float("inf")


def assert_same(ours, expected, label=""):
    for a, b in zip(ours, expected, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b), label


def random_batch(seed, dtype=torch.float64):
    """Make small crystals with all mixes of pbc, one without atoms, and a large one."""
    rng = np.random.default_rng(seed)
    cases = [random_case(rng, number, most_bonds=1e4) for number in range(24)]
    cases.insert(5, cases[0]._replace(positions=np.zeros((0, 3))))
    cases.append(Case(rng.uniform(0, 20, (800, 3)), 20 * np.eye(3), np.ones(3, bool), 4.0))
    return {
        "positions": torch.tensor(np.concatenate([case.positions for case in cases]), dtype=dtype),
        "cell": torch.tensor(np.stack([case.cell for case in cases]), dtype=dtype),
        "pbc": torch.tensor(np.stack([case.pbc for case in cases])),
        "ptr": torch.tensor([0, *np.cumsum([len(case.positions) for case in cases])]),
    }, torch.tensor([case.cutoff for case in cases]).double()


def select(batch, bonds, cutoff, module=dtnn_fast.ops):
    return module.bonds_within(batch["positions"], batch["cell"], *bonds, cutoff, batch["ptr"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("self_pairs", [False, True])
def test_equals_a_fresh_list_and_reference(dtype, half, self_pairs):
    batch, cutoffs = random_batch(1, dtype)
    long = neighbor_list(**batch, cutoff=cutoffs, half=half, self_pairs=self_pairs)
    for shorter in (0.7 * cutoffs, torch.zeros_like(cutoffs), cutoffs):
        ours = select(batch, long, shorter)
        assert_same(ours[1:], neighbor_list(**batch, cutoff=shorter, half=half, self_pairs=self_pairs))
        assert torch.equal(ours.pairs, long.pairs[:, ours.kept])
        assert torch.equal(ours.shifts, long.shifts[ours.kept])
        assert_same(ours, select(batch, long, shorter, reference))
    assert_same(select(batch, long, 1.5)[1:4], select(batch, long, torch.full_like(cutoffs, 1.5))[1:4])


def test_at_other_positions_and_another_cell():
    batch, cutoffs = random_batch(2)
    long = neighbor_list(**batch, cutoff=cutoffs)
    rng = torch.Generator().manual_seed(0)
    moved = batch | {
        "positions": batch["positions"] + 0.02 * torch.rand(batch["positions"].shape, generator=rng).double(),
        "cell": batch["cell"] * 1.001,
    }
    shorter = 0.6 * cutoffs
    assert_same(select(moved, long, shorter)[1:], neighbor_list(**moved, cutoff=shorter))


def test_ties_at_the_cutoff():
    """Bonds exactly as long as the cutoff are left out, as in a search."""
    for crystal in load_labelled()[:20]:
        positions, cell = torch.tensor(crystal.positions), torch.tensor(crystal.cell)
        long = neighbor_list(positions, cell, ALL, 5.0)
        lengths = dtnn_fast.ops.bond_vectors(positions, cell, long.pairs, long.shifts).norm(dim=1)
        for cutoff in lengths.unique()[:6].tolist():
            ours = bonds_within(positions, cell, *long, cutoff)
            assert_same(ours[1:], neighbor_list(positions, cell, ALL, cutoff), crystal.label)


@pytest.mark.parametrize("sizes", [[], [0], [1], [0, 2, 0]])
def test_empty(sizes):
    ptr = torch.tensor([0, *np.cumsum(sizes)], dtype=torch.int64)
    positions = torch.zeros(int(ptr[-1]), 3)
    bonds = neighbor_list(positions, 9 * torch.eye(3), ALL, 2.0, ptr)
    ours = bonds_within(positions, 9 * torch.eye(3), *bonds, 1.0, ptr)
    assert ours.kept.tolist() == list(range(bonds.pairs.shape[1]))
    assert_same(ours, reference.bonds_within(positions, 9 * torch.eye(3), *bonds, 1.0, ptr))


def test_same_bits_for_any_number_of_threads():
    generator = torch.Generator().manual_seed(1)
    positions, cell = 40 * torch.rand(4000, 3, generator=generator), 40 * torch.eye(3)
    bonds = neighbor_list(positions, cell, ALL, 6.0)
    check_same_bits(lambda: bonds_within(positions, cell, *bonds, 5.0))


def test_non_contiguous_inputs():
    batch, cutoffs = random_batch(3)
    long = neighbor_list(**batch, cutoff=cutoffs)
    strided = NeighborList(*(part.t().contiguous().t() if part.dim() == 2 else part for part in long))
    assert_same(select(batch, strided, 0.5 * cutoffs), select(batch, long, 0.5 * cutoffs))


def test_opcheck():
    batch, cutoffs = random_batch(4)
    long = neighbor_list(**batch, cutoff=cutoffs)
    op = torch.ops.dtnn_fast.bonds_within.default
    check_operator(op, batch["positions"], batch["cell"], batch["ptr"], *long, 1.5, None)
    check_operator(op, batch["positions"], batch["cell"], batch["ptr"], *long, 0.0, 0.5 * cutoffs)


def test_compiled():
    @torch.compile(fullgraph=True, dynamic=True, backend="aot_eager")
    def count(positions, cell):
        nested = nested_neighbor_lists(positions, cell, ALL, (2.0, 4.0))
        return nested.lists[0].row_ptr.diff(), nested.lists[1].row_ptr.diff(), nested.inner[0] + 1

    for num_atoms in (3, 5, 11):
        positions, cell = 4 * torch.rand(num_atoms, 3), 4 * torch.eye(3)
        short, long = (neighbor_list(positions, cell, ALL, cutoff) for cutoff in (2.0, 4.0))
        kept = bonds_within(positions, cell, *long, 2.0).kept
        assert_same(count(positions, cell), (short.row_ptr.diff(), long.row_ptr.diff(), kept + 1))


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("self_pairs", [False, True])
def test_nested_lists_equal_fresh_ones(half, self_pairs):
    batch, cutoffs = random_batch(5)
    requested = (0.0, 0.4 * cutoffs, 0.4 * cutoffs, 0.7 * cutoffs, cutoffs)
    ours = nested_neighbor_lists(**batch, cutoffs=requested, half=half, self_pairs=self_pairs)
    assert len(ours.lists) == len(requested)
    assert len(ours.inner) == len(requested) - 1
    for bonds, cutoff in zip(ours.lists, requested, strict=True):
        assert_same(bonds, neighbor_list(**batch, cutoff=cutoff, half=half, self_pairs=self_pairs))
    for k, inner in enumerate(ours.inner):
        assert torch.equal(ours.lists[k + 1].pairs[:, inner], ours.lists[k].pairs)
        assert torch.equal(ours.lists[k + 1].shifts[inner], ours.lists[k].shifts)


def test_nested_lists_equal_reference():
    crystal = load_labelled()[3]
    arguments = torch.tensor(crystal.positions), torch.tensor(crystal.cell), ALL, (3.0, 4.0, 6.0)
    ours, expected = (module.nested_neighbor_lists(*arguments, half=True) for module in (dtnn_fast.ops, reference))
    for a, b in zip(ours.lists, expected.lists, strict=True):
        assert_same(a, b)
    assert_same(ours.inner, expected.inner)
    with dtnn_fast.use_backend("reference"):
        assert_same(nested_neighbor_lists(*arguments, half=True).inner, expected.inner)


@pytest.mark.parametrize("cutoffs", [(), (3.0, 2.0), (torch.tensor([3.0]), 2.0), (NAN, 2.0, 1.0)])
def test_nested_cutoffs_that_do_not_ascend(cutoffs):
    with pytest.raises(ValueError, match="nested_neighbor_lists: expected"):
        nested_neighbor_lists(torch.zeros(1, 3), torch.eye(3), ALL, cutoffs)


GOOD = {
    "positions": torch.zeros(3, 3),
    "cell": torch.eye(3).expand(2, 3, 3),
    "pairs": torch.tensor([[0, 0, 2], [0, 1, 2]]),
    "shifts": torch.ones(3, 3, dtype=torch.int32),
    "row_ptr": torch.tensor([0, 2, 2, 3]),
    "cutoff": 1.0,
    "ptr": torch.tensor([0, 2, 3]),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positions": torch.zeros(3, 2)}, r"expected `positions` of shape \[N, 3\], got \[3, 2\]"),
        ({"positions": torch.full((3, 3), NAN)}, "expected finite `positions`, got NaN or infinity at atom 0"),
        ({"cell": torch.full((3, 3), INF)}, "expected a finite `cell`, got NaN or infinity in that of crystal 0"),
        ({"cell": torch.eye(3).double()}, "expected `cell` of the dtype of `positions`"),
        ({"ptr": torch.tensor([0, 3])}, r"expected `cell` of shape \[3, 3\] or \[B, 3, 3\] with B = 1 crystals"),
        ({"ptr": torch.tensor([0, 4, 3])}, "expected `ptr` that never falls, got 4 before 3 at crystal 1"),
        ({"ptr": torch.tensor([0, 1, 3])}, "both ends in one crystal, got atoms 0 and 1 at bond 1"),
        ({"pairs": torch.zeros(2, 3)}, "expected `pairs` of dtype int64, got float32"),
        ({"pairs": torch.zeros(2, 2, dtype=torch.int64)}, "expected `shifts` of shape .* with E = 2"),
        ({"pairs": torch.tensor([[0, 0, 2], [0, 9, 2]])}, "both ends in one crystal, got atoms 0 and 9 at bond 1"),
        ({"pairs": torch.tensor([[0, 0, 2], [0, -1, 2]])}, "both ends in one crystal, got atoms 0 and -1 at bond 1"),
        ({"pairs": torch.tensor([[0, 1, 2], [0, 1, 2]])}, "sorted by center .* got center 1 at bond 1 of atom 0"),
        ({"shifts": torch.ones(3, 3, dtype=torch.int64)}, "expected `shifts` of dtype int32, got int64"),
        ({"row_ptr": torch.tensor([0, 2, 3])}, r"expected `row_ptr` of shape \[N\+1\] with N = 3 .* got \[3\]"),
        ({"row_ptr": torch.tensor([0, 2, 2, 4])}, "expected `row_ptr` from 0 to the number of bonds, 3, got 0 to 4"),
        ({"row_ptr": torch.tensor([0, 2, 1, 3])}, "expected `row_ptr` that never falls, got 2 before 1 at atom 1"),
        ({"cutoff": -1.0}, "expected a finite `cutoff` of 0 or more, got -1"),
        ({"cutoff": torch.tensor([1.0, NAN])}, "crystal 1: expected a finite `cutoff` of 0 or more, got nan"),
        ({"cutoff": torch.tensor([1.0])}, r"expected `cutoff` of shape \[B\] with B = 2 crystals, got \[1\]"),
        ({"cutoff": torch.tensor([1, 1])}, "expected `cutoff` of a floating-point dtype"),
    ],
)
def test_bad_input(change, message):
    bonds_within(**GOOD)
    with pytest.raises(RuntimeError, match=f"bonds_within: .*{message}|bonds_within: {message}"):
        bonds_within(**(GOOD | change))

# SPDX-License-Identifier: MIT
"""nearest_neighbors: equal to the reference implementation and to all neighbors sorted by distance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import check_same_bits
from list_cases import random_case, supercell

import dtnn_fast
from dtnn_fast import reference
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.ops import nearest_neighbors, neighbor_list
from dtnn_fast.reference.bonds_within import squared_lengths

ALL = torch.tensor([True, True, True])
NONE = torch.tensor([False, False, False])


def assert_same(ours, expected, label=""):
    for a, b in zip(ours, expected, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b), label


@pytest.mark.parametrize("k", [0, 1, 12, 60])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_reference(k, dtype):
    rng = np.random.default_rng(0)
    for number in range(24):
        case = random_case(rng, number)
        arguments = torch.tensor(case.positions, dtype=dtype), torch.tensor(case.cell, dtype=dtype)
        pbc = torch.tensor(case.pbc)
        ours = nearest_neighbors(*arguments, pbc, k)
        assert_same(ours, reference.nearest_neighbors(*arguments, pbc, k), number)
        full = k if case.pbc.any() else min(k, len(case.positions) - 1)
        assert ours.row_ptr.diff().tolist() == [full] * len(case.positions)


def test_ties_in_symmetric_crystals_equal_reference():
    for crystal in load_labelled()[:30]:
        arguments = torch.tensor(crystal.positions), torch.tensor(crystal.cell), ALL
        for k in (1, 5, 13):
            assert_same(nearest_neighbors(*arguments, k), reference.nearest_neighbors(*arguments, k), crystal.label)


def test_batch_is_its_crystals_one_after_another():
    """Densities from 1 to 10^-6 of the usual in one batch: some crystals need more searches than others."""
    rng = np.random.default_rng(1)
    cases = [random_case(rng, number) for number in range(24)]
    cases = [
        case._replace(positions=case.positions * scale, cell=case.cell * scale)
        for case, scale in zip(cases, np.geomspace(1, 100, len(cases)), strict=True)
    ]
    cases.insert(3, cases[0]._replace(positions=np.zeros((0, 3))))
    ptr = torch.tensor([0, *np.cumsum([len(case.positions) for case in cases])])
    ours = nearest_neighbors(
        torch.tensor(np.concatenate([case.positions for case in cases])),
        torch.tensor(np.stack([case.cell for case in cases])),
        torch.tensor(np.stack([case.pbc for case in cases])),
        8,
        ptr,
    )
    singles = [nearest_neighbors(*map(torch.tensor, case[:3]), 8) for case in cases]
    parts = [single.pairs + first for single, first in zip(singles, ptr, strict=False)]
    assert torch.equal(ours.pairs, torch.cat(parts, dim=1))
    assert torch.equal(ours.shifts, torch.cat([single.shifts for single in singles]))
    assert torch.equal(ours.row_ptr.diff(), torch.cat([single.row_ptr.diff() for single in singles]))


def test_large_crystal():
    rng = np.random.default_rng(2)
    positions, cell = map(torch.tensor, supercell(rng.uniform(0, 4, (6, 3)), 4 * np.eye(3), 9))
    ours = nearest_neighbors(positions, cell, ALL, 6)
    wide = neighbor_list(positions, cell, ALL, 6.0)
    squared = squared_lengths(positions, cell, wide.pairs, wide.shifts, None)
    for i in (0, 17, len(positions) - 1):
        row = range(*wide.row_ptr[i : i + 2].tolist())
        nearest = sorted(sorted(row, key=lambda e: (float(squared[e]), e))[:6])
        assert ours.pairs[1, 6 * i : 6 * i + 6].tolist() == wide.pairs[1, nearest].tolist()


@pytest.mark.parametrize("pbc", [ALL, NONE, torch.tensor([True, False, False]), torch.tensor([True, True, False])])
def test_uneven_densities(pbc):
    """A cluster, an atom far away from it, several coinciding atoms: the sparse ones need several searches."""
    positions = torch.cat([torch.rand(20, 3), torch.tensor([[60.0, 0, 0], [0, -70.0, 0]]), torch.zeros(3, 3)]).double()
    cell = torch.diag(torch.tensor([90.0, 90, 90])).double()
    for k in (1, 10, 40):
        expected = reference.nearest_neighbors(positions, cell, pbc, k)
        assert_same(nearest_neighbors(positions, cell, pbc, k), expected, k)


@pytest.mark.parametrize("spacing", [1e-6, 1e-3, 1e3, 1e6])
def test_any_scale(spacing):
    positions = spacing * torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 4]]).double()
    bonds = nearest_neighbors(positions, torch.zeros(3, 3).double(), NONE, 2)
    assert bonds.pairs[1].tolist() == [1, 2, 0, 2, 0, 1, 0, 1]


def test_all_atoms_at_one_place():
    bonds = nearest_neighbors(torch.zeros(5, 3), torch.zeros(3, 3), NONE, 3)
    assert bonds.pairs[1].tolist() == [1, 2, 3, 0, 2, 3, 0, 1, 3, 0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("sizes", [[], [0], [1], [0, 2, 0]])
@pytest.mark.parametrize("pbc", [ALL, NONE])
def test_empty(sizes, pbc):
    ptr = torch.tensor([0, *np.cumsum(sizes)], dtype=torch.int64)
    arguments = torch.zeros(int(ptr[-1]), 3), 9 * torch.eye(3), pbc, 4, ptr
    assert_same(nearest_neighbors(*arguments), reference.nearest_neighbors(*arguments))


def test_same_bits_for_any_number_of_threads():
    crystals = load_labelled()[:100]
    arguments = (
        torch.tensor(np.concatenate([c.positions for c in crystals])),
        torch.tensor(np.stack([c.cell for c in crystals])),
        ALL,
        12,
        torch.tensor([0, *np.cumsum([c.num_atoms for c in crystals])]),
    )
    check_same_bits(lambda: nearest_neighbors(*arguments))


def test_backend_switch():
    arguments = torch.rand(4, 3), 3 * torch.eye(3), ALL, 5
    with dtnn_fast.use_backend("reference"):
        expected = nearest_neighbors(*arguments)
    assert_same(nearest_neighbors(*arguments), expected)


@pytest.mark.parametrize("k", [-1, 2.0, True, "3", None])
def test_bad_k(k):
    with pytest.raises(ValueError, match="nearest_neighbors: expected `k` to be an integer of 0 or more, got "):
        nearest_neighbors(torch.zeros(1, 3), torch.eye(3), ALL, k)


def test_bad_arguments_have_the_messages_of_neighbor_list():
    with pytest.raises(RuntimeError, match=r"neighbor_list: expected `positions` of shape \[N, 3\]"):
        nearest_neighbors(torch.zeros(1, 2), torch.eye(3), ALL, 1)
    with pytest.raises(RuntimeError, match="neighbor_list: the `cell` has no volume"):
        nearest_neighbors(torch.zeros(1, 3), torch.zeros(3, 3), ALL, 1)

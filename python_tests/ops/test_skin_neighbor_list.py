# SPDX-License-Identifier: MIT
"""SkinNeighborList: equal to a new search at every step of random walks, with few searches."""

from __future__ import annotations

from itertools import product

import pytest
import torch

import dtnn_fast
from dtnn_fast import reference
from dtnn_fast.ops import SkinNeighborList, neighbor_list

ALL = torch.tensor([True, True, True])
NAN = float("nan")


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def assert_same(ours, expected, label=""):
    for a, b in zip(ours, expected, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b), label


def walk(batch, generator, steps, step=0.05, strain=0.0, drift=0.0, wrap=False):
    """Yield positions and cells of a random walk: of single atoms, of the strained cells, of whole crystals."""
    positions, cell, pbc, ptr = batch
    crystal = torch.repeat_interleave(torch.arange(len(cell)), ptr.diff())
    for _ in range(steps):
        change = torch.eye(3).double() + strain * torch.randn(3, 3, generator=generator).double()
        positions = positions @ change + step * torch.randn(positions.shape, generator=generator).double() + drift
        cell = cell @ change
        if wrap:
            fractional = (positions[:, None] @ torch.linalg.inv(cell)[crystal])[:, 0]
            cells = torch.where(pbc[crystal], fractional.floor(), 0.0)
            positions = positions - (cells[:, None] @ cell[crystal])[:, 0]
        yield positions, cell, pbc, ptr


def random_batch(generator, sizes=(8, 0, 1, 30, 8, 8, 8, 8, 8), edge=6.0):
    cell = edge * torch.eye(3).double() + torch.rand(len(sizes), 3, 3, generator=generator).double()
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    positions = edge * torch.rand(int(ptr[-1]), 3, generator=generator).double()
    pbc = torch.tensor([list(mix) for mix in product([True, False], repeat=3)] + [[True] * 3])[: len(sizes)]
    return positions, cell, pbc, ptr


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    "motion",
    [
        {},
        {"strain": 0.004},
        {"drift": torch.tensor([0.3, -0.2, 0.1]).double()},
        {"strain": 0.004, "drift": 0.2, "wrap": True},
        {"step": 0.5, "strain": 0.1, "wrap": True},
    ],
    ids=["atoms", "strain", "drift", "wrapped", "wild"],
)
def test_equals_a_new_search_at_every_step(motion, half, generator):
    batch = random_batch(generator)
    lists = SkinNeighborList(4.0, 1.0, half, self_pairs=half)
    for number, now in enumerate(walk(batch, generator, 60, **motion)):
        positions, cell, pbc, ptr = now
        assert_same(lists.update(*now), neighbor_list(positions, cell, pbc, 4.0, ptr, half, half), number)
    if motion.get("step") is None:
        assert 1 <= lists.num_rebuilds <= 12
    else:
        assert lists.num_rebuilds > 30


def test_cells_without_vectors_across_free_directions(generator):
    """A slab whose third vector is zero and that rotates, strains and drifts, and a molecule without a cell."""
    cell = torch.zeros(2, 3, 3).double()
    cell[0, :2] = torch.tensor([[5.0, 0, 0], [1.0, 6, 0]])
    pbc = torch.tensor([[True, True, False], [False, False, False]])
    ptr = torch.tensor([0, 12, 24])
    positions = 6 * torch.rand(24, 3, generator=generator).double()
    angle = torch.tensor(0.003).double()
    turn = torch.tensor([[1, 0, 0], [0, angle.cos(), angle.sin()], [0, -angle.sin(), angle.cos()]]).double() * 1.0005
    lists = SkinNeighborList(4.0, 1.5)
    for _ in range(100):
        positions = positions @ turn + 0.005 * torch.randn(24, 3, generator=generator).double() + 0.1
        cell = cell @ turn
        assert_same(lists.update(positions, cell, pbc, ptr), neighbor_list(positions, cell, pbc, 4.0, ptr))
    assert 1 <= lists.num_rebuilds <= 12


def test_a_compressed_crystal_is_searched_again_in_time(generator):
    """Strain alone brings bonds slightly longer than cutoff + skin inside the cutoff."""
    positions, cell = torch.zeros(1, 3).double(), torch.diag(torch.tensor([5.02, 50, 50])).double()
    lists = SkinNeighborList(4.0, 1.0)
    counts = []
    for scale in torch.linspace(1, 0.78, 45).double():
        now = positions, cell * torch.tensor([scale, 1, 1])[:, None], ALL
        counts.append(lists.update(*now).pairs.shape[1])
        assert_same(lists.update(*now), neighbor_list(*now, 4.0))
    assert (counts[0], counts[-1]) == (0, 2)
    assert lists.num_rebuilds == 1


def test_two_atoms_that_approach(generator):
    cell = 20 * torch.eye(3).double()
    lists = SkinNeighborList(3.0, 1.0)
    for x in torch.linspace(4.05, 2.5, 60).double():
        positions = torch.stack([torch.zeros(3).double(), torch.stack([x, x * 0, x * 0])])
        assert_same(lists.update(positions, cell, ALL), neighbor_list(positions, cell, ALL, 3.0))
    assert lists.num_rebuilds == 1


def test_uniform_motion_and_whole_cells_need_no_search(generator):
    positions, cell, pbc, ptr = random_batch(generator, sizes=(20, 30))
    pbc = torch.ones_like(pbc)
    crystal = torch.tensor([0] * 20 + [1] * 30)
    lists = SkinNeighborList(4.0, 0.5)
    for number in range(20):
        cells = torch.randint(-3, 4, (50, 3), generator=generator).double()
        now = positions + 0.7 * number + (cells[:, None] @ cell[crystal])[:, 0], cell, pbc, ptr
        assert_same(lists.update(*now), neighbor_list(*now[:3], 4.0, ptr))
    assert lists.num_rebuilds == 0


def test_positions_moved_in_place(generator):
    positions, cell, pbc, ptr = random_batch(generator)
    lists = SkinNeighborList(4.0, 0.4)
    for _ in range(20):
        positions += 0.05 * torch.randn(positions.shape, generator=generator).double()
        assert_same(lists.update(positions, cell, pbc, ptr), neighbor_list(positions, cell, pbc, 4.0, ptr))
    assert lists.num_rebuilds > 0


def test_cutoffs_of_each_crystal_and_float32(generator):
    batch = random_batch(generator)
    cutoffs = torch.linspace(0, 5, len(batch[1]))
    lists = SkinNeighborList(cutoffs, 1.0)
    for positions, cell, pbc, ptr in walk(batch, generator, 40, strain=0.002):
        now = positions.float(), cell.float(), pbc, ptr
        assert_same(lists.update(*now), neighbor_list(*now[:3], cutoffs, ptr))
    assert 1 <= lists.num_rebuilds <= 8


def test_other_crystals_are_searched_anew(generator):
    lists = SkinNeighborList(4.0, 1.0)
    positions, cell = 5 * torch.rand(6, 3, generator=generator).double(), 5 * torch.eye(3).double()
    changes = [
        (positions, cell, ALL, None),
        (positions[:5], cell, ALL, None),
        (positions, cell, ALL, None),
        (positions.float(), cell.float(), ALL, None),
        (positions, cell, torch.tensor([True, True, False]), None),
        (positions, cell, ALL, torch.tensor([0, 6])),
        (positions, cell.expand(2, 3, 3), ALL, torch.tensor([0, 2, 6])),
        (positions, cell.expand(2, 3, 3), ALL, torch.tensor([0, 3, 6])),
        (positions[:0], cell, ALL, None),
    ]
    for number, now in enumerate(changes):
        for _ in range(2):
            assert_same(lists.update(*now), neighbor_list(*now[:3], 4.0, now[3]))
            assert lists.num_rebuilds == number


def test_equals_reference(generator):
    positions, cell, pbc, ptr = random_batch(generator, sizes=(5, 4))
    ours, expected = SkinNeighborList(3.0, 0.5), reference.SkinNeighborList(3.0, 0.5)
    assert ours.num_rebuilds == expected.num_rebuilds == 0
    for now in walk((positions, cell, pbc, ptr), generator, 4):
        assert_same(ours.update(*now), expected.update(*now))
        with dtnn_fast.use_backend("reference"):
            assert_same(ours.update(*now), expected.update(*now))
    assert expected.num_rebuilds == 7


@pytest.mark.parametrize("skin", [-0.1, NAN, float("inf")])
def test_bad_skin(skin):
    with pytest.raises(ValueError, match="SkinNeighborList: expected a finite `skin` of 0 or more"):
        SkinNeighborList(3.0, skin)


def test_bad_positions_after_good_ones():
    lists, cell = SkinNeighborList(3.0, 1.0), 5 * torch.eye(3)
    lists.update(torch.zeros(2, 3), cell, ALL)
    with pytest.raises(RuntimeError, match="neighbor_list: expected finite `positions`"):
        lists.update(torch.tensor([[0.0, 0, 0], [0, NAN, 0]]), cell, ALL)
    with pytest.raises(RuntimeError, match="neighbor_list: expected a finite `cell`"):
        lists.update(torch.zeros(2, 3), cell * NAN, ALL)
    with pytest.raises(RuntimeError, match="neighbor_list: expected `positions` of shape"):
        lists.update(torch.zeros(2, 2), cell, ALL)
    assert lists.update(torch.zeros(2, 3), cell, ALL).pairs.shape == (2, 2)

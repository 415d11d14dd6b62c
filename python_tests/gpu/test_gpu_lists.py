# SPDX-License-Identifier: MIT
"""Neighbor lists: the bits of the CPU, on the bundled crystals and on random cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from gpu_samples import capture, directions
from torch import Tensor

from dtnn_fast import ops
from dtnn_fast.datasets.bundled import load_labelled

CUTOFF = 6.0
RUNS = 20


class Batch(NamedTuple):
    """Crystals one after the other, in float64 on the CPU."""

    positions: Tensor
    cell: Tensor
    pbc: Tensor
    ptr: Tensor

    def on(self, device: torch.device, dtype: torch.dtype = torch.float64) -> Batch:
        """The same elsewhere."""
        return Batch(*(x.to(device, dtype if x.is_floating_point() else x.dtype) for x in self))

    def list(self, cutoff: Any = CUTOFF, **more: Any) -> ops.NeighborList:
        """Its bonds."""
        return ops.neighbor_list(self.positions, self.cell, self.pbc, cutoff, self.ptr, **more)


def labelled(step: int) -> Batch:
    """Return every `step`-th labelled crystal."""
    crystals = load_labelled()[::step]
    return Batch(
        torch.tensor(np.concatenate([crystal.positions for crystal in crystals])),
        torch.tensor(np.stack([crystal.cell for crystal in crystals])),
        torch.tensor(np.stack([crystal.pbc for crystal in crystals])),
        torch.tensor(np.cumsum([0, *(crystal.num_atoms for crystal in crystals)])),
    )


def random_cells(num_crystals: int, seed: int) -> Batch:
    """Triclinic and left-handed cells, any mix of periodic directions, atoms far outside, crystals without atoms."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 40, num_crystals)
    cell = rng.normal(0, 1, (num_crystals, 3, 3)) + 4 * np.eye(3) * rng.choice([-1, 1], (num_crystals, 3))[:, None]
    positions = [rng.uniform(-3, 4, (size, 3)) @ matrix for size, matrix in zip(sizes, cell, strict=True)]
    pbc = rng.random((num_crystals, 3)) < 0.7
    ptr = np.cumsum([0, *sizes])
    return Batch(*(torch.tensor(x) for x in (np.concatenate(positions), cell, pbc, ptr)))


def large_cell(num_atoms: int) -> Batch:
    """One crystal at the density of a dense solid."""
    rng = np.random.default_rng(0)
    edge = (num_atoms / 0.08) ** (1 / 3)
    cell = edge * np.array([[1, 0, 0], [0.3, 1, 0], [-0.2, 0.1, 1]])
    positions = rng.uniform(0, 1, (num_atoms, 3)) @ cell
    return Batch(*(torch.tensor(x) for x in (positions, cell[None], np.ones((1, 3), dtype=bool), [0, num_atoms])))


BATCHES: dict[str, Callable[[], Batch]] = {
    "1 crystal": lambda: labelled(1000),
    "32 crystals": lambda: labelled(30),
    "all labelled": lambda: labelled(1),
    "random cells": lambda: random_cells(60, 0),
    "large cell": lambda: large_cell(20000),
    "nothing": lambda: Batch(*(x[:0] for x in labelled(1000)[:3]), torch.tensor([0])),
    "no atoms": lambda: random_cells(5, 0)._replace(positions=torch.empty(0, 3).double(), ptr=torch.zeros(6).long()),
}


def need(op: str, device: torch.device) -> None:
    """Skip where this build has no such operation or no kernel for the device."""
    if not hasattr(torch.ops.dtnn_fast, op):
        pytest.skip(f"this build has no {op}")
    if not torch._C._dispatch_has_kernel_for_dispatch_key(f"dtnn_fast::{op}", device.type.upper()):
        pytest.skip(f"{op} has no {device.type.upper()} kernel in this build")


def assert_same(found: Any, expected: Any) -> None:
    """The same integers."""
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours.cpu(), theirs.cpu())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("name", BATCHES)
def test_bits_equal_those_of_the_cpu(name, half, dtype, device):
    need("neighbor_list", device)
    batch = BATCHES[name]()
    found = batch.on(device, dtype).list(half=half)
    assert all(x.device.type == device.type for x in found)
    assert_same(found, batch.on(torch.device("cpu"), dtype).list(half=half))


@pytest.mark.parametrize("seed", range(20))
def test_random_cells(seed, device):
    need("neighbor_list", device)
    batch = random_cells(40, seed + 1)
    for cutoff in (0.5, 3.0, 9.0):
        assert_same(batch.on(device).list(cutoff), batch.list(cutoff))


def test_a_cutoff_for_each_crystal_and_self_pairs(device):
    need("neighbor_list", device)
    batch = labelled(10)
    cutoffs = torch.linspace(0, 7, len(batch.cell), dtype=torch.float64)
    for half in (False, True):
        found = batch.on(device).list(cutoffs.to(device), half=half, self_pairs=True)
        assert_same(found, batch.list(cutoffs, half=half, self_pairs=True))


@pytest.mark.parametrize("name", ["all labelled", "large cell"])
def test_same_bits_in_every_run(name, device):
    need("neighbor_list", device)
    batch = BATCHES[name]().on(device)
    first = batch.list()
    for _ in range(RUNS - 1):
        assert_same(batch.list(), first)


def test_another_stream(device):
    need("neighbor_list", device)
    batch = labelled(5).on(device)
    expected = batch.list()
    if device.type == "cpu":
        return
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    torch.cuda._sleep(400_000_000)
    with torch.cuda.stream(side):
        found = batch.list()
    side.synchronize()
    assert_same(found, expected)


@pytest.mark.parametrize("name", BATCHES)
def test_bonds_within(name, device):
    need("bonds_within", device)
    here, there = BATCHES[name]().on(device), BATCHES[name]()
    long = here.list()
    found = ops.bonds_within(here.positions, here.cell, *long, 4.0, here.ptr)
    assert_same(found[1:], there.list(4.0))
    assert_same([long.pairs[:, found[0]]], [found[1]])


@pytest.mark.parametrize("name", BATCHES)
def test_bond_reverses(name, device):
    need("bond_reverses", device)
    batch = BATCHES[name]()
    assert_same([ops.bond_reverses(*batch.on(device).list())], [ops.bond_reverses(*batch.list())])


@pytest.mark.parametrize("name", BATCHES)
def test_nested_lists(name, device):
    need("neighbor_list", device)
    need("bonds_within", device)
    here, there = BATCHES[name]().on(device), BATCHES[name]()
    found = ops.nested_neighbor_lists(here.positions, here.cell, here.pbc, (2.0, 4.0, CUTOFF), here.ptr, half=True)
    for cutoff, bonds in zip((2.0, 4.0, CUTOFF), found.lists, strict=True):
        assert_same(bonds, there.list(cutoff, half=True))


@pytest.mark.parametrize("name", BATCHES)
def test_nearest_neighbors(name, device):
    need("neighbor_list", device)
    here, there = BATCHES[name]().on(device), BATCHES[name]()
    found = ops.nearest_neighbors(here.positions, here.cell, here.pbc, 12, here.ptr)
    assert_same(found, ops.nearest_neighbors(there.positions, there.cell, there.pbc, 12, there.ptr))


def test_list_of_fixed_size_in_a_cuda_graph(device):
    """Replays follow the positions; a graph that is too small says so and how much it would need."""
    need("neighbor_list_fixed", device)
    batch = labelled(30).on(device)
    capacity = batch.list().pairs.shape[1] + 1000
    for room in (capacity, 10):
        positions = batch.positions.clone()

        def find(positions=positions, room=room) -> list[Tensor]:
            return list(ops.neighbor_list_fixed(positions, batch.cell, batch.pbc, CUTOFF, room, batch.ptr))

        replay = capture(find, device)
        for step in range(3):
            positions.copy_(batch.positions + 0.02 * step * directions(batch.positions, step))
            pairs, shifts, row_ptr, num_bonds, status = replay()
            expected = batch._replace(positions=positions).list()
            count = expected.pairs.shape[1]
            assert num_bonds.item() == count
            assert status.item() == (0 if count <= room else 1)
            if count <= room:
                assert_same([pairs[:, :count], shifts[:count], row_ptr[:-1]], [*expected[:2], expected.row_ptr[:-1]])

# SPDX-License-Identifier: MIT
"""Neighbor lists of fixed size and CUDA graphs; what lists say of bad values; large crystals among small ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_gpu_lists import BATCHES, Batch, assert_same, labelled, large_cell, need, random_cells

from dtnn_fast import ops
from dtnn_fast.ops import FixedNeighborList


def fixed_list(batch: Batch, cutoff: Any, capacity: int, **more: Any) -> FixedNeighborList:
    return ops.neighbor_list_fixed(batch.positions, batch.cell, batch.pbc, cutoff, capacity, batch.ptr, **more)


def joined(*batches: Batch) -> Batch:
    """All crystals as one batch."""
    ptr = [torch.zeros(1, dtype=torch.int64)]
    for batch in batches:
        ptr.append(batch.ptr[1:] + ptr[-1][-1])
    positions, cell, pbc = (torch.cat(parts) for parts in list(zip(*batches, strict=True))[:3])
    return Batch(positions, cell, pbc, torch.cat(ptr))


def mixed() -> Batch:
    """Few small crystals with large ones, and the other way around: both ways of starting the search."""
    return joined(random_cells(5, 0), large_cell(3000), labelled(100), large_cell(600))


@pytest.mark.parametrize("num_small", [0, 3, 400])
def test_large_crystals_among_small_ones(num_small, device):
    need("neighbor_list", device)
    batch = joined(random_cells(num_small, 1), mixed()) if num_small else mixed()
    assert_same(batch.on(device).list(5.0), batch.list(5.0))


@pytest.mark.parametrize("name", BATCHES)
def test_fixed_lists_equal_those_of_the_cpu(name, device):
    need("neighbor_list_fixed", device)
    batch = BATCHES[name]()
    num_bonds = batch.list(4.0).pairs.shape[1]
    for capacity in {num_bonds, num_bonds // 2, num_bonds + 1000} if len(batch.positions) else {0}:
        for half in (False, True):
            found = fixed_list(batch.on(device), 4.0, capacity, half=half)
            assert_same(found, fixed_list(batch, 4.0, capacity, half=half))


@pytest.mark.parametrize("make", [lambda: labelled(5), mixed])
def test_a_cuda_graph_follows_the_positions(make, device):
    need("neighbor_list_fixed", device)
    batch = make()
    here = batch.on(device)._replace(positions=batch.positions.to(device, copy=True))
    capacity = 3 * batch.list(4.0).pairs.shape[1]
    fixed = fixed_list(here, 4.0, capacity)
    if device.type == "cuda":
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            fixed = fixed_list(here, 4.0, capacity)
    for scale in (1.0, 1.03, 3.0, 0.2):  # more and fewer bonds, and more than there is room for
        here.positions.copy_(scale * batch.positions)
        if device.type == "cuda":
            graph.replay()
        else:
            fixed = fixed_list(here, 4.0, capacity)
        assert_same(fixed, fixed_list(batch._replace(positions=scale * batch.positions), 4.0, capacity))
    if device.type == "cuda":
        here.positions[0, 0] = float("nan")
        graph.replay()
        assert (fixed.status.item(), fixed.num_bonds.item()) == (2, 0)


def test_what_waits_for_the_device_cannot_be_captured(device):
    need("neighbor_list", device)
    if device.type == "cpu":
        pytest.skip("a CPU has no graphs")
    batch = labelled(300).on(device)
    expected = batch.list()
    torch.cuda.synchronize()
    with (
        pytest.raises(RuntimeError, match="neighbor_list: waits for the device"),
        torch.cuda.graph(torch.cuda.CUDAGraph()),
    ):
        batch.list()
    torch.cuda.synchronize()
    assert_same(batch.list(), expected)


def spoiled(**change: torch.Tensor) -> dict[str, Any]:
    good = {
        "positions": torch.zeros(2, 3),
        "cell": 3 * torch.eye(3).repeat(2, 1, 1),
        "pbc": torch.ones(2, 3, dtype=torch.bool),
        "cutoff": 3.5,
        "ptr": torch.tensor([0, 1, 2]),
    }
    return good | change


@pytest.mark.parametrize(
    "arguments",
    [
        spoiled(positions=torch.tensor([[0, 0, 0], [0, float("nan"), 0]])),
        spoiled(positions=torch.tensor([[0, 0, 0], [0, 1e20, 0]]), ptr=torch.tensor([0, 2, 2])),
        spoiled(cell=torch.stack([torch.eye(3), torch.zeros(3, 3)])),
        spoiled(cell=torch.full((2, 3, 3), float("inf"))),
        spoiled(ptr=torch.tensor([0, 1, 1])),
        spoiled(ptr=torch.tensor([0, -5, 2])),
        spoiled(ptr=torch.tensor([1, 1, 2])),
        spoiled(cutoff=torch.tensor([1.0, float("inf")])),
    ],
)
def test_bad_values_get_the_message_of_the_cpu(arguments, device):
    need("neighbor_list", device)
    messages = []
    for place in (torch.device("cpu"), device):
        moved = {name: x.to(place) if isinstance(x, torch.Tensor) else x for name, x in arguments.items()}
        with pytest.raises(RuntimeError, match="neighbor_list: ") as error:
            ops.neighbor_list(**moved)
        messages.append(str(error.value).splitlines()[0])
    assert messages[0] == messages[1]

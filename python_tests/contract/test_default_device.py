# SPDX-License-Identifier: MIT
"""Operations, graphs and predictions do not depend on torch's default device, only on the device of their inputs.

The device "meta" stands for a GPU that a program has made the default device.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from model_cases import asymmetric_crystals, config, randomised
from op_cases import FUNCTIONS, OPERATIONS, batch, full_list, leaves, outputs, scalar
from torch import Tensor

from dtnn_fast import ops, reference, use_backend
from dtnn_fast._backend import uses_reference
from dtnn_fast.nn.graph import CrystalGraph, build_graph, collate


def skin_list() -> Any:
    return (reference if uses_reference() else ops).SkinNeighborList(2.0, 0.4)


LISTS = {
    "neighbor_list": lambda b: ops.neighbor_list(*b[:3], 2.4, b.ptr),
    "neighbor_list of one crystal": lambda b: ops.neighbor_list(b.positions, b.cell[0], b.pbc[0], 2.4),
    "neighbor_list_fixed": lambda b: ops.neighbor_list_fixed(*b[:3], 2.4, capacity=200, ptr=b.ptr),
    "nested_neighbor_lists": lambda b: ops.nested_neighbor_lists(*b[:3], (1.5, 2.4), b.ptr).lists[0],
    "nested_neighbor_lists per crystal": lambda b: ops.nested_neighbor_lists(
        *b[:3], (1.5, 2.4 * torch.ones(len(b.cell), dtype=torch.float64, device="cpu")), b.ptr
    ).lists[0],
    "nearest_neighbors": lambda b: ops.nearest_neighbors(*b[:3], 3, b.ptr),
    "bonds_within": lambda b: ops.bonds_within(b.positions, b.cell, b.pairs, b.shifts, b.row_ptr, 1.9, b.ptr),
    "full_to_half": lambda b: ops.full_to_half(*full_list(b)).half,
    "neighbor_order": lambda b: ops.neighbor_order(b.pairs, len(b.positions)),
    "SkinNeighborList": lambda b: skin_list().update(*b[:3], b.ptr),
}


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("name", LISTS)
def test_lists(name, backend):
    b = batch(2)
    with use_backend(backend):
        expected = LISTS[name](b)
        with torch.device("meta"):
            found = LISTS[name](b)
    for out, wanted in zip(found, expected, strict=True):
        assert out is wanted is None or torch.equal(out, wanted)


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_operations_and_their_gradients(name, backend):
    arguments = FUNCTIONS[name].arguments(batch(2))
    moving = leaves(arguments)

    def values() -> tuple[Tensor, ...]:
        out = FUNCTIONS[name].call(*arguments)
        first = torch.autograd.grad(scalar(out), moving, create_graph=True)
        return *outputs(out), *first, *torch.autograd.grad(scalar(first), moving, materialize_grads=True)

    with use_backend(backend):
        expected = values()
        with torch.device("meta"):
            found = values()
    assert all(torch.equal(out, wanted) for out, wanted in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", OPERATIONS)
def test_raw_operations(name):
    arguments = OPERATIONS[name].arguments(batch(2))
    expected = outputs(OPERATIONS[name].call(*arguments))
    with torch.device("meta"):
        found = outputs(OPERATIONS[name].call(*arguments))
    assert all(torch.equal(out, wanted) for out, wanted in zip(found, expected, strict=True))


def tensors_of(graph: CrystalGraph) -> list[Tensor]:
    tiers = [x for tier in graph.tiers for x in (tier.pairs, tier.shifts, tier.row_ptr, *tier.by_neighbor, tier.inner)]
    return [graph.atomic_numbers, graph.positions, graph.cell, graph.ptr, *tiers]


def test_graphs():
    crystals = asymmetric_crystals()

    def graph() -> CrystalGraph:
        return collate([build_graph(crystals, (4.0, 5.0)), build_graph(crystals[:1], (4.0, 5.0))])

    expected = graph()
    with torch.device("meta"):
        found = graph()
    assert all(torch.equal(out, wanted) for out, wanted in zip(tensors_of(found), tensors_of(expected), strict=True))


def test_predictions():
    model, crystals = randomised(config(2)), asymmetric_crystals()
    expected = model.predict(crystals)
    with torch.device("meta"):
        assert (model.predict(crystals) == expected).all()
    torch.set_default_device("meta")
    try:
        assert (model.predict(crystals) == expected).all()
    finally:
        torch.set_default_device(None)

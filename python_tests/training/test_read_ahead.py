# SPDX-License-Identifier: MIT
"""Batches made in a thread: order, errors, and tensors in nested containers."""

from __future__ import annotations

import pytest
import torch
from model_cases import config, small_crystals

from dtnn_fast.model.dtnn import DTNN
from dtnn_fast.nn.graph import BondTier
from dtnn_fast.symmetry import with_operations
from dtnn_fast.training.read_ahead import batches_on, map_tensors, read_ahead


def test_reading_ahead_keeps_order_and_passes_errors_on():
    assert list(read_ahead(lambda: iter(range(50)))) == list(range(50))

    def broken():
        yield 1
        raise OSError("gone")

    taken = read_ahead(broken)
    assert next(taken) == 1
    with pytest.raises(OSError, match="gone"):
        next(taken)
    early = read_ahead(lambda: iter(range(10**9)))
    assert next(early) == 0
    early.close()


@pytest.mark.parametrize("reduced", [False, True])
def test_all_tensors_of_a_batch_are_replaced(reduced):
    model = DTNN(config(2))
    crystals = with_operations(small_crystals(3, max_atoms=4))
    graph = model.inference_graph(crystals) if reduced else model.graph(crystals)
    assert graph.is_reduced == reduced
    batch = {"graph": graph, "rows": [(graph.ptr, "text", None)]}
    seen = []
    moved = map_tensors(batch, lambda x: seen.append(x) or x.to("meta"))
    tiers = moved["graph"].tiers
    assert all(isinstance(tier, BondTier) and tier.by_neighbor.order.is_meta for tier in tiers)
    assert moved["rows"][0][0].is_meta
    assert moved["rows"][0][1:] == ("text", None)
    expected = [x for x in vars(graph.to("meta")).values() if isinstance(x, torch.Tensor)]
    assert len(seen) > len(expected) + 6 * len(tiers)
    assert type(moved["graph"]) is type(graph)
    map_tensors(moved, lambda x: x if x.is_meta else pytest.fail("a tensor was left"))


def test_batches_on_the_cpu_are_not_copied():
    value = torch.ones(1)
    assert [batch is value for batch in batches_on(torch.device("cpu"), lambda: iter([value]))] == [True]

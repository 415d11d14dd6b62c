# SPDX-License-Identifier: MIT
"""torch.export of the operations and the model: one program for every size, including 0 and 1."""

from __future__ import annotations

import io

import pytest
import torch
from exporting import BATCHES, exported, small_model
from model_cases import small_crystals
from op_cases import FUNCTIONS, batch

from dtnn_fast.model.exported import export_model, graph_from_tensors, graph_tensors

SIZES = (7, 2, 13, 40, 1, 0)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_operations(name):
    case = FUNCTIONS[name]
    program = exported(case)
    operation = f"dtnn_fast.{name.split()[0]}"
    assert any(str(node.target).startswith(operation) for node in program.graph.nodes)  # not decomposed
    for size in SIZES:
        arguments = case.arguments(batch(size))
        torch.testing.assert_close(program.module()(*arguments), case.call(*arguments), rtol=0, atol=0)


def test_saved_and_loaded():
    case = FUNCTIONS["rank2_gate"]
    file = io.BytesIO()
    torch.export.save(exported(case), file)
    file.seek(0)
    arguments = case.arguments(batch(5))
    torch.testing.assert_close(torch.export.load(file).module()(*arguments), case.call(*arguments))


def test_model():
    model = small_model()
    program = export_model(model, model.graph(small_crystals(6, max_atoms=4))).module()
    for crystals in BATCHES.values():
        graph = model.graph(crystals)
        (tensors,) = program(*graph_tensors(graph))
        torch.testing.assert_close(tensors, model(graph)["total"])


def test_graphs_and_their_tensors():
    model = small_model()
    graph = model.graph(BATCHES["five"])
    again = graph_from_tensors(graph_tensors(graph), model.encoder.cutoffs)
    assert [tier.cutoff for tier in again.tiers] == [tier.cutoff for tier in graph.tiers]
    assert all(a is b for a, b in zip(graph_tensors(again), graph_tensors(graph), strict=True))

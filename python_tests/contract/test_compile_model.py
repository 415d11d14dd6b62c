# SPDX-License-Identifier: MIT
"""torch.compile of the model with inductor: values and weight gradients as in eager, one compilation for all."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from compiling import fresh_compiler, no_recompilation  # noqa: F401  the fixture acts by itself
from exporting import small_model
from model_cases import small_crystals

from dtnn_fast.model.dtnn import DTNN


def values_and_gradients(call, model, graph):
    tensors = call(graph)["total"]
    return tensors, torch.autograd.grad(tensors.sin().sum(), list(model.parameters()))


@pytest.mark.slow
def test_one_compilation_for_twenty_batches(device):
    model = copy.deepcopy(small_model(layers=1)).to(device)
    compiled = torch.compile(model, fullgraph=True, dynamic=True)

    def check(count: int) -> None:
        graph = model.graph(small_crystals(count, max_atoms=5, skip=count))
        expected = values_and_gradients(model, model, graph)
        torch.testing.assert_close(values_and_gradients(compiled, model, graph), expected, rtol=1e-9, atol=1e-10)

    check(10)
    with no_recompilation():
        for count in (8, 24, *range(11, 29)):
            check(count)


def test_copies_and_states_of_a_compiled_model():
    """A compiled model still has a state, can be copied and saved, and does not change the original."""
    model = copy.deepcopy(small_model())
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="eager")
    graph = model.graph(small_crystals(6, max_atoms=4))
    expected = model(graph)["total"]
    torch.testing.assert_close(compiled(graph)["total"], expected)
    state = {name.removeprefix("_orig_mod."): value for name, value in compiled.state_dict().items()}
    fresh = DTNN(model.config).double()
    fresh.load_state_dict(state)
    fresh.eval()
    for other in (fresh, copy.deepcopy(model), copy.deepcopy(compiled), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(other(graph)["total"], expected)
    in_place = copy.deepcopy(model)
    in_place.compile(fullgraph=True, dynamic=True, backend="eager")
    torch.testing.assert_close(in_place(graph)["total"], expected)
    assert list(in_place.state_dict()) == list(model.state_dict())


def test_in_inference_mode():
    model = copy.deepcopy(small_model(layers=1))
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    graph = model.graph(small_crystals(6, max_atoms=4))
    with torch.inference_mode():
        tensors = compiled(graph)["total"]
        torch.testing.assert_close(tensors, model(graph)["total"])
    assert not tensors.requires_grad

# SPDX-License-Identifier: MIT
"""Derivatives in positions, cell and weights, also where they might be infinite; native kernels equal the reference."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from model_cases import (
    TINY,
    VARIANTS,
    assert_close,
    asymmetric_crystals,
    config,
    randomised,
    rattled,
    strained,
    variant,
)
from torch.autograd import gradcheck, gradgradcheck

from dtnn_fast import use_backend
from dtnn_fast.crystals.crystal import Crystal

CRYSTALS = asymmetric_crystals()
BOX = 30.0 * np.eye(3)
# Cells in which something is exactly zero: vectors, off-diagonals, or every bond.
ROCK_SALT = Crystal.from_fractional(
    "rock salt", [12, 8], [[0, 0, 0], [0.5, 0.5, 0.5]], 2.1 * (np.ones((3, 3)) - np.eye(3))
)
SPECIAL = {
    "one atom without bonds": Crystal.make("atom", [3], [[1.0, 2.0, 3.0]], BOX),
    "two atoms in a box": Crystal.make("dimer", [1, 9], [[0, 0, 0], [0, 0, 0.92]], BOX),
    "two atoms out of reach": Crystal.make("far", [1, 9], [[0, 0, 0], [0, 0, 15.0]], BOX),
    "one atom and its images": Crystal.make("cubic", [84], [[0, 0, 0]], 3.35 * np.eye(3)),
    "rock salt": ROCK_SALT,
}


def graph_and_inputs(model, crystal):
    graph = model.graph([crystal])
    positions = graph.positions.clone().requires_grad_()
    strain = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    return graph, positions, strain


@pytest.mark.parametrize("name", VARIANTS)
def test_gradients_in_positions_and_strain_are_those_of_finite_differences(name):
    model = variant(name)
    graph, positions, strain = graph_and_inputs(model, CRYSTALS[1])

    def predict(positions, strain):
        return model(strained(graph, positions, strain))["total"]

    assert gradcheck(predict, (positions, strain), eps=1e-5, rtol=1e-5, atol=1e-6)


def test_gradients_in_the_cell_itself_are_those_of_finite_differences():
    model = variant("layer4-bonds-residual")
    graph = model.graph([CRYSTALS[0], CRYSTALS[1]])
    cell = graph.cell.clone().requires_grad_()
    assert gradcheck(lambda c: model(replace(graph, cell=c))["total"], (cell,), eps=1e-5, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("layer", "bonds"), [(2, False), (4, True)])
def test_second_derivatives_are_those_of_finite_differences(layer, bonds):
    model = randomised(config(layer, bonds, channels=TINY, latent=4))
    hydrogen = Crystal.make("tiny", [1, 3], [[0, 0, 0], [1.3, 1.1, 1.9]], [[4.2, 0, 0.3], [0.4, 4.4, 0], [0, 0.5, 4.6]])
    graph, positions, strain = graph_and_inputs(model, hydrogen)

    def predict(positions, strain):
        return model(strained(graph, positions, strain))["total"]

    assert gradgradcheck(predict, (positions, strain), eps=1e-5, rtol=1e-4, atol=1e-5)


def test_gradients_in_the_weights_are_those_of_finite_differences():
    model = randomised(config(3, channels=TINY, latent=4, blocks=1))
    graph = model.graph([CRYSTALS[1]])
    names, values = zip(*model.named_parameters(), strict=True)

    def predict(*values):
        return torch.func.functional_call(model, dict(zip(names, values, strict=True)), (graph,))["total"]

    inputs = [value.detach().clone().requires_grad_() for value in values]
    assert gradcheck(predict, inputs, eps=1e-5, rtol=1e-5, atol=1e-6, fast_mode=True)


@pytest.mark.parametrize("layer", [3, 5])
@pytest.mark.parametrize("bonds", [True, False])
@pytest.mark.parametrize("crystal", SPECIAL.values(), ids=SPECIAL)
def test_everything_is_finite_where_norms_or_bonds_vanish(crystal, bonds, layer):
    model = variant(f"layer{layer}-{'bonds' if bonds else 'simple'}-residual")
    graph, positions, strain = graph_and_inputs(model, crystal)
    tensor = model(strained(graph, positions, strain))["total"]
    assert torch.isfinite(tensor).all()
    inputs = [positions, strain, *model.parameters()]
    weights = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    first = torch.autograd.grad((tensor * weights).sum(), inputs, create_graph=True, materialize_grads=True)
    assert all(torch.isfinite(g).all() for g in first)
    mixed = sum((g * torch.cos(torch.arange(g.numel(), dtype=g.dtype)).view_as(g)).sum() for g in first)
    second = torch.autograd.grad(mixed, inputs, materialize_grads=True)
    assert all(torch.isfinite(g).all() for g in second)
    if graph.tiers[-1].num_bonds == 0:
        tensor = tensor.detach()
        assert_close(tensor[0], tensor[0, 0, 0] * torch.eye(3, dtype=tensor.dtype))
        assert not first[0].any()
        assert not first[1].any()


def test_atoms_out_of_reach_give_the_mean_of_atoms_alone():
    model = variant("layer4-bonds-residual")
    alone = [Crystal.make("atom", [z], [[0, 0, 0]], BOX) for z in (1, 9)]
    with torch.no_grad():
        both = model(model.graph([SPECIAL["two atoms out of reach"]]))["total"][0]
        assert_close(both, model(model.graph(alone))["total"].mean(0))


@pytest.mark.parametrize("name", VARIANTS)
def test_native_kernels_and_reference_agree_in_values_and_two_derivatives(name):
    model = variant(name)

    def everything():
        graph = model.graph(CRYSTALS)
        positions = graph.positions.clone().requires_grad_()
        strain = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
        tensor = model(strained(graph, positions, strain))["total"]
        inputs = [positions, strain, *model.parameters()]
        first = torch.autograd.grad(tensor.square().sum(), inputs, create_graph=True, materialize_grads=True)
        second = torch.autograd.grad(first[0].square().sum() + first[1].square().sum(), inputs, materialize_grads=True)
        return [x.detach() for x in (tensor, *first, *second)]

    native = everything()
    with use_backend("reference"):
        expected = everything()
    for a, b in zip(native, expected, strict=True):
        # What does not reach a weight is zero in both.
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10 * float(b.abs().max()) + 1e-300)


def test_a_rattled_crystal_has_larger_gradients_than_a_symmetric_one():
    """In rock salt no atom has a direction to move in that changes the trace; so the gradient must vanish."""
    model = variant("layer4-bonds-residual")
    sizes = []
    for crystal in (ROCK_SALT, rattled(ROCK_SALT)):
        graph, positions, strain = graph_and_inputs(model, crystal)
        trace = model(strained(graph, positions, strain))["total"][0].trace()
        sizes.append(float(torch.autograd.grad(trace, positions)[0].abs().max()))
    assert sizes[0] < 1e-10
    assert sizes[1] > 1e-3

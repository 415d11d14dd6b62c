# SPDX-License-Identifier: MIT
"""The operations follow the rules of torch's autograd."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from op_cases import FUNCTIONS, OPERATIONS, batch, differentiable, leaves, on, outputs, scalar
from torch import Tensor

from dtnn_fast import ops

DIFFERENTIABLE = [name for name, case in OPERATIONS.items() if differentiable(case)]


def floating(arguments):
    return [x for x in arguments if isinstance(x, Tensor) and x.is_floating_point()]


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(name, mode, device):
    case = FUNCTIONS[name]
    arguments = on(case.arguments(batch(3)), device)
    leaves(arguments)
    expected = outputs(case.call(*arguments))
    with mode():
        out = outputs(case.call(*arguments))
    assert not any(x.requires_grad for x in out)
    assert all(torch.equal(a, b) for a, b in zip(out, expected, strict=True))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_of_single_inputs_are_right(name, device):
    """Only one input requires a gradient, in first and second derivatives."""
    case = FUNCTIONS[name]
    arguments = on(case.arguments(batch(2)), device)
    everything = leaves(on(arguments, device))
    moved = iter(everything)
    first = torch.autograd.grad(
        scalar(case.call(*(next(moved) if x.is_floating_point() else x for x in arguments))), everything
    )
    for place, expected in zip([i for i, x in enumerate(arguments) if x.is_floating_point()], first, strict=True):
        given = on(arguments, device)
        given[place].requires_grad_()
        (gradient,) = torch.autograd.grad(scalar(case.call(*given)), given[place], create_graph=True)
        torch.testing.assert_close(gradient, expected)
        (second,) = torch.autograd.grad(gradient.square().sum(), given[place])
        step = 1e-6 * second.cos()
        moved_gradients = []
        for sign in (1, -1):
            shifted = list(given)
            shifted[place] = (given[place] + sign * step).detach().requires_grad_()
            moved_gradients += torch.autograd.grad(scalar(case.call(*shifted)), shifted[place])
        change = moved_gradients[0].square().sum() - moved_gradients[1].square().sum()
        torch.testing.assert_close((second * step).sum() * 2, change, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_changed_inputs_are_noticed(name, device):
    """Inputs that the backward needs must not be changed in place; other inputs may be."""
    case = OPERATIONS[name]
    arguments = on(case.arguments(batch(2)), device)
    moving = leaves(arguments)
    expected = torch.autograd.grad(scalar(case.call(*arguments)), moving, materialize_grads=True)
    noticed = 0
    for changed in moving:
        out = scalar(case.call(*arguments))
        with torch.no_grad():
            changed.add_(1.0)
        try:
            torch.testing.assert_close(torch.autograd.grad(out, moving, materialize_grads=True), expected)
        except RuntimeError as error:
            assert "modified by an inplace operation" in str(error)  # noqa: PT017  either way is right
            noticed += 1
        with torch.no_grad():
            changed.sub_(1.0)
    linear = ("bond_vectors", "bond_to_atom", "atom_to_bond")
    assert noticed == 0 if name.startswith(linear) else noticed > 0


@pytest.mark.parametrize("name", FUNCTIONS)
def test_backward_twice_needs_retain_graph(name, device):
    case = FUNCTIONS[name]
    arguments = on(case.arguments(batch(2)), device)
    moving = leaves(arguments)
    out = scalar(case.call(*arguments))
    first = torch.autograd.grad(out, moving, retain_graph=True)
    assert all(torch.equal(a, b) for a, b in zip(torch.autograd.grad(out, moving), first, strict=True))
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(out, moving)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_expanded_and_strided_gradients(name, device):
    """The gradient of a sum is an expanded number, the gradient of a transpose is strided."""
    case = FUNCTIONS[name]
    arguments = on(case.arguments(batch(3)), device)
    moving = leaves(arguments)
    out = outputs(case.call(*arguments))
    for make in (torch.ones_like, lambda x: torch.randn_like(x.transpose(0, -1)).transpose(0, -1)):
        strided = [make(x) for x in out]
        given = [x.new_ones(()).expand_as(x) for x in out] if make is torch.ones_like else strided
        expected = torch.autograd.grad(out, moving, [g.contiguous() for g in strided], retain_graph=True)
        torch.testing.assert_close(torch.autograd.grad(out, moving, given, retain_graph=True), expected)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_of_one_output_only(name, device):
    """The gradient of the other output is absent, which must count as zero."""
    case = FUNCTIONS[name]
    arguments = on(case.arguments(batch(2)), device)
    moving = leaves(arguments)
    out = outputs(case.call(*arguments))
    parts = [torch.autograd.grad(scalar(x), moving, retain_graph=True, create_graph=True) for x in out]
    summed = torch.autograd.grad(torch.stack([scalar(x) for x in out]).sum(), moving)
    torch.testing.assert_close([torch.stack(g).sum(0) for g in zip(*parts, strict=True)], list(summed))


def test_integers_cannot_need_gradients_and_have_none(device):
    b = batch(2)
    positions, cell, pairs, shifts, ptr = on((b.positions, b.cell, b.pairs, b.shifts, b.ptr), device)
    positions.requires_grad_()
    bonds = ops.neighbor_list(positions, cell, b.pbc.to(device), 2.4, ptr)
    assert not any(x.requires_grad for x in bonds)
    vectors = ops.bond_vectors(positions, cell, pairs, shifts, ptr)
    with pytest.raises(RuntimeError, match=r"only .* floating point"):
        ops.bond_vectors(positions, cell, pairs.requires_grad_(), shifts, ptr)
    assert vectors.requires_grad


def test_hooks_and_graph_names(device):
    """Hooks on results run, and the graph names the operation."""
    x, weight = on((batch(2).atoms(3, 3), batch(2).atoms(3)), device)
    seen = []
    out = ops.rank2_linear(x, weight.requires_grad_())
    out.register_hook(lambda g: seen.append(g.shape))
    assert out.grad_fn.name() == "rank2_linearBackward"
    out.sum().backward()
    assert seen == [out.shape]


def test_checkpointing_gives_the_same_gradients(device):
    arguments = on(FUNCTIONS["rank2_gate"].arguments(batch(3)), device)
    moving = leaves(arguments)
    call = FUNCTIONS["rank2_gate"].call
    results = []
    for reentrant in (None, False, True):
        out = call(*arguments)
        if reentrant is not None:
            out = torch.utils.checkpoint.checkpoint(call, *arguments, use_reentrant=reentrant)
        results.append(torch.autograd.grad(scalar(out), moving) if not reentrant else backward(out, moving))
    torch.testing.assert_close(results[1], results[0])
    torch.testing.assert_close(results[2], results[0])


def backward(out, moving):
    scalar(out).backward()
    return tuple(x.grad for x in moving)


def test_saved_tensor_hooks_see_what_is_saved(device):
    """Offloading to the CPU by torch's hooks works with these operations."""
    arguments = on(FUNCTIONS["rank2_linear with norm"].arguments(batch(3)), device)
    moving = leaves(arguments)
    packed = []

    def pack(x):
        packed.append(x.shape)
        return x.clone()

    call = FUNCTIONS["rank2_linear with norm"].call
    expected = torch.autograd.grad(scalar(call(*arguments)), moving)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        out = scalar(call(*arguments))
    assert len(packed) >= 4
    torch.testing.assert_close(torch.autograd.grad(out, moving), expected)


def test_pickle_and_copies_of_results():
    x = batch(2).atoms(3, 3)
    out = ops.rank2_linear(x, x[0])
    assert torch.equal(pickle.loads(pickle.dumps(out)), out)
    assert torch.equal(copy.deepcopy(out), out)
    file = io.BytesIO()
    torch.save(out, file)
    file.seek(0)
    assert torch.equal(torch.load(file), out)

# SPDX-License-Identifier: MIT
"""Second derivatives of bond_messages: the kernel against its backward in torch's operations, differentiated by torch.

Finite differences of second order are in test_bond_messages.py.
"""

from __future__ import annotations

import random

import pytest
import torch
from helpers import CallsOf, check_same_bits, random_graph
from test_bond_messages import CASES, OPS, public_call, random_inputs, scalar_of

from dtnn_fast import use_backend
from dtnn_fast.ops._bond_messages_derivatives import composed_backward, composed_double_backward
from dtnn_fast.ops._reference_gradients import reference_gradients, reference_gradients_with_tangents

NUM_GRADS, NUM_INPUTS = 5, 12
# The last is a large block, which threads share.
MANY = [*CASES, (60, 2500, (8, 4, 2, 8))]


def some_of(tensors, generator):
    """Put None in the place of half the tensors, at least one of which stays."""
    kept = [x if generator.random() < 0.5 else None for x in tensors]
    place = generator.randrange(len(kept))
    kept[place] = tensors[place]
    return kept


def random_changes(arguments, seed=0):
    """Draw gradients of the gradients of the inputs, and gradients of the outputs."""
    generator = torch.Generator().manual_seed(seed)

    def like(x):
        return torch.randn(x.shape, dtype=x.dtype, generator=generator)

    return [like(x) for x in arguments[:NUM_INPUTS]], [like(x) for x in OPS.bond_messages(*arguments)]


def composed(changes, grads, arguments):
    """The same gradients by torch.autograd; those of absent gradients are those of zeros."""
    outputs = OPS.bond_messages(*arguments)
    grads = [torch.zeros_like(out) if grad is None else grad for out, grad in zip(outputs, grads, strict=True)]
    leaves = [x.clone().requires_grad_() for x in (*grads, *arguments[:NUM_INPUTS])]
    results = composed_backward(*leaves, *arguments[NUM_INPUTS:])
    wanted = [place for place, change in enumerate(changes) if change is not None]
    moving = [results[place] for place in wanted], leaves, [changes[place] for place in wanted]
    return torch.autograd.grad(*moving, materialize_grads=True)


def assert_close(ours, theirs, tolerance):
    for a, b in zip(ours, theirs, strict=True):
        # Relative to the largest number of each result: its smaller ones are differences of larger ones.
        scale = max(1.0, float(b.abs().max())) if b.numel() else 1.0
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("num_atoms", "num_bonds", "sizes"), MANY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_composed(num_atoms, num_bonds, sizes, turned, dtype):
    arguments = random_inputs(num_atoms, num_bonds, sizes, turned, dtype)
    changes, grads = random_changes(arguments)
    ours = OPS.bond_messages_double_backward(*changes, *grads, *arguments, True, True)
    assert_close(ours, composed(changes, grads, arguments), 5e-5 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_absent_gradients_are_zero(seed, turned):
    generator = random.Random(seed)
    arguments = random_inputs(7, 60, (16, 17, 3, 33), turned)
    changes, grads = (some_of(tensors, generator) for tensors in random_changes(arguments, seed))
    geometry, weights = generator.random() < 0.5, generator.random() < 0.5
    ours = OPS.bond_messages_double_backward(*changes, *grads, *arguments, geometry, weights)
    theirs = composed(changes, grads, arguments)
    needed = [True] * 10 + [geometry] * 3 + [weights] * 4
    assert all(x.shape == (y.shape if need else (0,)) for x, y, need in zip(ours, theirs, needed, strict=True))
    kept = [(x, y) for x, y, need in zip(ours, theirs, needed, strict=True) if need]
    assert_close(*zip(*kept, strict=True), 1e-12)


@pytest.mark.parametrize("gradients", [reference_gradients, reference_gradients_with_tangents])
@pytest.mark.parametrize("turned", [False, True])
def test_gradients_on_cuda_and_in_forward_mode(gradients, turned):
    """Where there is no kernel, torch's operations compute what is needed, here on the CPU."""
    generator = random.Random(0)
    arguments = random_inputs(5, 12, (3, 2, 2, 4), turned)
    changes, grads = (some_of(tensors, generator) for tensors in random_changes(arguments))
    needed = [generator.random() < 0.5 for _ in range(NUM_GRADS + NUM_INPUTS)]
    results = composed_double_backward(gradients, changes, [*grads, *arguments], needed)
    assert [x is not None for x in results] == needed
    expected = OPS.bond_messages_double_backward(*changes, *grads, *arguments, True, True)
    assert_close(*zip(*[(x, y) for x, y in zip(results, expected, strict=True) if x is not None], strict=True), 1e-12)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("num_bonds", [40, 2500])
def test_gradients_of_gradients_equal_reference(num_bonds, turned):
    arguments = random_inputs(60, num_bonds, (8, 4, 2, 8), turned)
    results = []
    for backend in ("native", "reference"):
        leaves = [x.clone().requires_grad_() for x in arguments[:NUM_INPUTS]]
        with use_backend(backend):
            outputs = public_call(*leaves, *arguments[NUM_INPUTS:])
            first = torch.autograd.grad(scalar_of(outputs), leaves, create_graph=True)
            (scalar_of(outputs) + scalar_of(first)).backward()
        results.append([x.grad for x in leaves])
    assert_close(*results, 1e-10)


def test_forces_need_no_gradients_of_weights():
    """Of the first backward only what leads to the bond vectors is computed, and of the second only the weights'."""
    arguments = random_inputs(6, 20, (3, 4, 2, 5))
    leaves = [x.clone().requires_grad_(place >= 5) for place, x in enumerate(arguments[:NUM_INPUTS])]
    weights = leaves[8:]
    outputs = public_call(*leaves, *arguments[NUM_INPUTS:])
    with CallsOf(OPS.bond_messages_backward.default) as first:
        grads = torch.autograd.grad(scalar_of(outputs), leaves[5:8], create_graph=True)
    with CallsOf(OPS.bond_messages_double_backward.default) as second:
        scalar_of(grads).backward(inputs=weights)
    assert [call[-3:-1] for call in first.arguments] == [(True, False)]
    assert [call[-2:] for call in second.arguments] == [(False, True)]
    assert all(x.grad is not None for x in weights)


@pytest.mark.parametrize("sizes", [(64, 32, 8, 64), (5, 3, 2, 7)])
def test_same_bits_for_any_number_of_threads(sizes):
    small = [random_graph(6, 40, seed) for seed in range(60)]
    pairs = torch.cat([g.pairs + 6 * k for k, g in enumerate(small)], dim=1)
    row_ptr = torch.searchsorted(pairs[0].contiguous(), torch.arange(361))
    many = random_inputs(360, 2400, sizes, True, torch.float32, type(small[0])(pairs, row_ptr))
    for arguments in (many, random_inputs(90, 3000, sizes, False, torch.float32)):
        changes, grads = random_changes(arguments)
        call = (*changes, *grads, *arguments, True, True)
        check_same_bits(lambda call=call: OPS.bond_messages_double_backward(*call))


BAD = {
    0: (lambda x: x[1:], r"expected `change_q` of shape \[N, 3, V\], got \[4, 3, 2\]"),
    3: (lambda x: x.float(), r"expected `change_bond_scalar` of the dtype of `q` \(float64\), got float32"),
    8: (lambda x: x.t(), r"expected `change_hidden_weight` of shape \[H, C \+ 5 V \+ R\], got \[15, 4\]"),
    13: (lambda x: x[:, :2], r"expected `grad_vector` of shape \[E, 3, V\], got \[12, 2, 2\]"),
}


@pytest.mark.parametrize("place", BAD)
def test_bad_arguments(place):
    spoil, message = BAD[place]
    arguments = random_inputs(5, 12, (3, 2, 2, 4))
    changes, grads = random_changes(arguments)
    given = [*changes, *grads, *arguments, True, True]
    given[place] = spoil(given[place])
    with pytest.raises(RuntimeError, match=f"bond_messages_double_backward: {message}"):
        OPS.bond_messages_double_backward(*given)

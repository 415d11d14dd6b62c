# SPDX-License-Identifier: MIT
"""Second derivatives of atom_update and atom_readout: the kernels against torch's derivatives of the references."""

from __future__ import annotations

import random

import pytest
import torch
from helpers import CallsOf, check_same_bits
from test_atom_networks import CASES, SHAPES

from dtnn_fast.ops._reference_gradients import second_gradients

OPS = torch.ops.dtnn_fast
SIZES = {"atom_update": (), "atom_readout": (6, 4, 5)}
# Groups of inputs whose gradients are needed or not.
GROUPS = {"atom_update": (0, 0, 0, 1, 1, 1, 2), "atom_readout": (0, 0, 0, 1)}


def draw(name, shape, seed=0, dtype=torch.float64):
    """Draw inputs, gradients of the outputs, and gradients of the gradients of the inputs."""
    make, native, _ = CASES[name]
    inputs = [x.to(dtype) for x in make(*shape)]
    generator = torch.Generator().manual_seed(seed)

    def like(x):
        return torch.randn(x.shape, dtype=dtype, generator=generator)

    return inputs, [like(x) for x in native(*inputs)], [like(x) for x in inputs]


def kernel(name, changes, grads, inputs, *needs):
    return getattr(OPS, f"{name}_double_backward")(*changes, *grads, *inputs, *SIZES[name], *needs)


def by_reference(name, changes, grads, inputs):
    _, native, reference = CASES[name]
    grads = [torch.zeros_like(x) if grad is None else grad for x, grad in zip(native(*inputs), grads, strict=True)]
    of_grads, of_inputs = second_gradients(reference, inputs, grads, changes)
    return [*of_grads, *of_inputs]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("shape", [*SHAPES, (0, 5, 3, 2)])
def test_equals_reference(name, shape):
    inputs, grads, changes = draw(name, shape)
    expected = by_reference(name, changes, grads, inputs)
    torch.testing.assert_close([*kernel(name, changes, grads, inputs)], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", range(8))
def test_absent_gradients_are_zero(name, seed):
    generator = random.Random(seed)
    inputs, grads, changes = draw(name, (30, 20, 17, 9), seed)
    grads = [x if generator.random() < 0.5 else None for x in grads]
    changes = [x if generator.random() < 0.5 else None for x in changes]
    changes[seed % len(changes)] = torch.ones_like(inputs[seed % len(changes)])
    needs = [generator.random() < 0.5 for _ in range(max(GROUPS[name]) + 1)]
    needed = [True] * 3 + [needs[group] for group in GROUPS[name]]
    results, expected = kernel(name, changes, grads, inputs, *needs), by_reference(name, changes, grads, inputs)
    for ours, theirs, need in zip(results, expected, needed, strict=True):
        torch.testing.assert_close(ours, theirs if need else torch.empty(0).double(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_float32_is_close_to_float64(name):
    inputs, grads, changes = draw(name, (50, 128, 32, 32))
    single = kernel(name, *([x.float() for x in part] for part in (changes, grads, inputs)))
    for rounded, exact in zip(single, kernel(name, changes, grads, inputs), strict=True):
        assert (rounded - exact).abs().max() < 5e-5 * exact.abs().max()


@pytest.mark.parametrize("name", CASES)
def test_same_bits_for_any_number_of_threads(name):
    inputs, grads, changes = draw(name, (900, 33, 16, 8), dtype=torch.float32)
    check_same_bits(lambda: kernel(name, changes, grads, inputs))


@pytest.mark.parametrize("name", CASES)
def test_gradients_of_gradients_use_it(name):
    """Of gradients by atoms alone, for parameters alone, neither pass computes more."""
    make, native, _ = CASES[name]
    leaves = [x.requires_grad_() for x in make(9, 5, 3, 2)]
    out = torch.stack([x.sin().sum() for x in native(*leaves)]).sum()
    with CallsOf(getattr(OPS, f"{name}_backward").default) as first:
        grads = torch.autograd.grad(out, leaves[:3], create_graph=True)
    with CallsOf(getattr(OPS, f"{name}_double_backward").default) as second:
        torch.stack([x.sin().sum() for x in grads]).sum().backward(inputs=leaves[-1:])
    needs = [group == 0 for group in range(max(GROUPS[name]) + 1)]
    # Its last argument is the precision.
    assert [list(call[-len(needs) - 1 : -1]) for call in first.arguments] == [needs]
    assert [list(call[-len(needs) :]) for call in second.arguments] == [[*(False for _ in needs[1:]), True]]


def test_bad_arguments():
    inputs, grads, changes = draw("atom_update", (7, 5, 3, 2))
    changes[4] = changes[4][:, :2]
    message = r"atom_update_double_backward: expected `change_sum_vector` of shape \[N, 3, 3\] with N = 7"
    with pytest.raises(RuntimeError, match=message):
        kernel("atom_update", changes, grads, inputs)
    changes[4] = None
    changes[6] = changes[6][1:]
    with pytest.raises(RuntimeError, match="atom_update_double_backward: expected `change_weights` of shape"):
        kernel("atom_update", changes, grads, inputs)

# SPDX-License-Identifier: MIT
"""Fused operations without a CUDA kernel of their backward: there the reference implementation computes gradients.

Here it does so on the CPU, whose kernels' gradients are the expected ones.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from ops.test_atom_networks import readout_inputs, update_inputs
from ops.test_bond_perceptron_sum import random_bonds
from ops.test_bond_perceptron_sum import random_inputs as perceptron_inputs
from ops.test_decode import moving, random_inputs
from torch import Tensor

from dtnn_fast import ops
from dtnn_fast.ops import _registration


def decode_call(**options: object) -> tuple[Callable, list[Tensor]]:
    arguments = random_inputs([3, 1, 12], **options)
    names = moving(arguments)
    return lambda *x: ops.decode(**(arguments | dict(zip(names, x, strict=True)))), [arguments[n] for n in names]


def perceptron_call(with_factors: bool) -> tuple[Callable, list[Tensor]]:
    pairs, row_ptr = random_bonds([3, 1, 8])
    inputs = perceptron_inputs(pairs.shape[1], 2, 7, 5, 3)
    inputs += [torch.rand(2, pairs.shape[1], dtype=torch.float64)] * with_factors
    return lambda *x: ops.bond_perceptron_sum(*x[:6], pairs, row_ptr, *x[6:]), inputs


CALLS = {
    "decode": decode_call,
    "decode without bonds": lambda: decode_call(bonds=False, masks=False, share=False),
    "bond_perceptron_sum": lambda: perceptron_call(True),
    "bond_perceptron_sum without factors": lambda: perceptron_call(False),
    "atom_update": lambda: (ops.atom_update, update_inputs(9, 5, 3, 2)),
    "atom_readout": lambda: (lambda *x: ops.atom_readout(*x, 6, 4, 5), readout_inputs(9, 5, 3, 2)),
}


def derivatives(function: Callable, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    """Gradients of the first and the second order."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    results = function(*leaves)
    results = (results,) if isinstance(results, Tensor) else results
    out = torch.stack([x.sin().sum() for x in results]).sum()
    first = torch.autograd.grad(out, leaves, create_graph=True, materialize_grads=True)
    along = torch.stack([(g * torch.cos(g)).sum() for g in first]).sum()
    return *first, *torch.autograd.grad(along, leaves, materialize_grads=True)


@pytest.fixture
def reference_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """Arguments of the backward operations that the reference implementation has run, as if on CUDA."""
    calls: list[tuple] = []
    monkeypatch.setattr(_registration, "_are_on_cuda", lambda arguments: calls.append(arguments) or True)
    return calls


@pytest.mark.parametrize("name", CALLS)
def test_gradients_are_those_of_the_kernel(name, request):
    function, inputs = CALLS[name]()
    expected = derivatives(function, inputs)
    calls = request.getfixturevalue("reference_calls")
    torch.testing.assert_close(derivatives(function, inputs), expected)
    assert calls


def test_gradients_without_members_are_zero(reference_calls):
    function, inputs = decode_call(members=0)
    leaves = [x.clone().requires_grad_() for x in inputs]
    assert not any(grad.any() for grad in torch.autograd.grad(function(*leaves).sum(), leaves))
    assert reference_calls


@pytest.mark.parametrize("name", ["decode", "atom_update"])
@pytest.mark.usefixtures("reference_calls")
def test_gradients_of_some_inputs(name):
    function, inputs = CALLS[name]()
    whole = derivatives(function, inputs)[: len(inputs)]
    first = inputs[0].clone().requires_grad_()
    results = function(first, *inputs[1:])
    results = (results,) if isinstance(results, Tensor) else results
    (alone,) = torch.autograd.grad(torch.stack([x.sin().sum() for x in results]).sum(), [first])
    torch.testing.assert_close(alone, whole[0])

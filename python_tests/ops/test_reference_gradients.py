# SPDX-License-Identifier: MIT
"""Backward operations of fused operations in forward mode: there the reference implementation computes gradients.

Here it does so without tangents, so that the kernels' gradients are the expected ones.
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


def derivatives(
    function: Callable, inputs: list[Tensor], before_backward: Callable[[], object] = lambda: None
) -> tuple[Tensor, ...]:
    """Gradients of the first and the second order."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    results = function(*leaves)
    results = (results,) if isinstance(results, Tensor) else results
    out = torch.stack([x.sin().sum() for x in results]).sum()
    before_backward()
    first = torch.autograd.grad(out, leaves, create_graph=True, materialize_grads=True)
    along = torch.stack([(g * torch.cos(g)).sum() for g in first]).sum()
    return *first, *torch.autograd.grad(along, leaves, materialize_grads=True)


class ReferenceCalls:
    """Makes the reference implementation run operations, as if their inputs had tangents, and counts these calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.count = 0

    def start(self) -> None:
        self._monkeypatch.setattr(_registration, "_have_tangents", self._see)

    def _see(self, _: tuple) -> bool:
        self.count += 1
        return True


@pytest.fixture
def reference_calls(monkeypatch: pytest.MonkeyPatch) -> ReferenceCalls:
    """The reference implementation from `start` on."""
    return ReferenceCalls(monkeypatch)


@pytest.mark.parametrize("name", CALLS)
def test_gradients_are_those_of_the_kernel(name, reference_calls):
    function, inputs = CALLS[name]()
    expected = derivatives(function, inputs)
    torch.testing.assert_close(derivatives(function, inputs, reference_calls.start), expected)
    assert reference_calls.count > 0


def test_gradients_without_members_are_zero(reference_calls):
    function, inputs = decode_call(members=0)
    leaves = [x.clone().requires_grad_() for x in inputs]
    out = function(*leaves).sum()
    reference_calls.start()
    assert not any(grad.any() for grad in torch.autograd.grad(out, leaves))
    assert reference_calls.count > 0


@pytest.mark.parametrize("name", ["decode", "atom_update"])
def test_gradients_of_some_inputs(name, reference_calls):
    function, inputs = CALLS[name]()
    whole = derivatives(function, inputs)[: len(inputs)]
    first = inputs[0].clone().requires_grad_()
    results = function(first, *inputs[1:])
    results = (results,) if isinstance(results, Tensor) else results
    out = torch.stack([x.sin().sum() for x in results]).sum()
    reference_calls.start()
    (alone,) = torch.autograd.grad(out, [first])
    torch.testing.assert_close(alone, whole[0])

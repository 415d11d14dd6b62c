# SPDX-License-Identifier: MIT
"""Sums of bond perceptrons: equal to the reference implementation, to the bit for any threads and batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dtnn_fast import reference
from dtnn_fast.ops import bond_perceptron_sum, bond_to_atom_sum, neighbor_list

OPS = torch.ops.dtnn_fast


def random_bonds(sizes: list[int], spacing: float = 1.9, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Make half lists of crystals with these numbers of atoms, joined: pairs and row_ptr."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([spacing * size ** (1 / 3) for size in sizes], dtype=torch.float64)
    crystal = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    inside = torch.rand(sum(sizes), 3, generator=generator, dtype=torch.float64)
    cell = lengths[:, None, None] * torch.eye(3, dtype=torch.float64)
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    pbc = torch.ones(len(sizes), 3, dtype=torch.bool)
    pairs, _, row_ptr = neighbor_list(inside * lengths[crystal, None], cell, pbc, 3.0, ptr, half=True)
    return pairs, row_ptr


def random_inputs(
    num_bonds: int, members: int, channels: int, hidden: int, outputs: int, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(num_bonds)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    weights = normal(members, channels, hidden) / channels**0.5, normal(members, hidden)
    more_weights = normal(members, hidden, outputs) / hidden**0.5, normal(members, outputs)
    return [normal(num_bonds, channels), normal(num_bonds).sigmoid(), *weights, *more_weights]


def gradients(inputs: list[Tensor], *bonds: Tensor, function=bond_perceptron_sum) -> tuple[Tensor, ...]:
    leaves = [x.clone().requires_grad_() for x in inputs]
    sums, envelope_sum = function(*leaves[:6], *bonds, *leaves[6:])
    return torch.autograd.grad(sums.sin().sum() + envelope_sum.cos().sum(), leaves)


@pytest.mark.parametrize("sizes", [[1], [3, 1, 8], [700], [90] * 12, [2] * 300])
@pytest.mark.parametrize("shape", [(1, 7, 5, 3), (3, 33, 16, 17), (3, 64, 0, 0), (2, 5, 0, 3)])
def test_equals_reference_with_gradients(sizes, shape):
    pairs, row_ptr = random_bonds(sizes)
    num_bonds = pairs.shape[1]
    factors = torch.randn(2, num_bonds, dtype=torch.float64)
    for inputs in (random_inputs(num_bonds, *shape), [*random_inputs(num_bonds, *shape), factors]):
        arguments = (*inputs[:6], pairs, row_ptr, *inputs[6:])
        torch.testing.assert_close(bond_perceptron_sum(*arguments), reference.bond_perceptron_sum(*arguments))
        ours = gradients(inputs, pairs, row_ptr)
        theirs = gradients(inputs, pairs, row_ptr, function=reference.bond_perceptron_sum)
        torch.testing.assert_close(ours, theirs)


def test_float32_is_close_to_float64():
    pairs, row_ptr = random_bonds([5, 40, 9])
    inputs = random_inputs(pairs.shape[1], 2, 128, 64, 64)
    exact = bond_perceptron_sum(*inputs, pairs, row_ptr)
    single = bond_perceptron_sum(*(x.float() for x in inputs), pairs, row_ptr)
    for ours, expected in zip(single, exact, strict=True):
        assert (ours - expected).abs().max() < 2e-5 * expected.abs().max()


@pytest.mark.parametrize("sizes", [[600], [40] * 40])
def test_same_bits_for_any_number_of_threads(sizes):
    pairs, row_ptr = random_bonds(sizes)
    inputs = random_inputs(pairs.shape[1], 3, 20, 16, 19, torch.float32)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append((*bond_perceptron_sum(*inputs, pairs, row_ptr), *gradients(inputs, pairs, row_ptr)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_a_crystal_does_not_depend_on_the_others():
    sizes = [2, 30, 7, 200, 1]
    pairs, row_ptr = random_bonds(sizes)
    inputs = random_inputs(pairs.shape[1], 2, 20, 16, 19, torch.float32)
    sums, envelope_sum = bond_perceptron_sum(*inputs, pairs, row_ptr)
    first = 0
    for size in sizes:
        atoms, bonds = slice(first, first + size), slice(int(row_ptr[first]), int(row_ptr[first + size]))
        own = bond_perceptron_sum(
            *(x[bonds] for x in inputs[:2]),
            *inputs[2:],
            pairs[:, bonds] - first,
            row_ptr[first : first + size + 1] - row_ptr[first],
        )
        assert torch.equal(own[0], sums[:, atoms])
        assert torch.equal(own[1], envelope_sum[atoms])
        first += size


def test_sum_of_the_envelope_is_bond_to_atom_sum():
    pairs, row_ptr = random_bonds([9, 20])
    inputs = random_inputs(pairs.shape[1], 1, 3, 4, 5)
    _, envelope_sum = bond_perceptron_sum(*inputs, pairs, row_ptr)
    torch.testing.assert_close(envelope_sum, bond_to_atom_sum(inputs[1], pairs, row_ptr, "sum"))


def test_without_bonds_atoms_or_perceptrons():
    no_bonds = torch.empty(2, 0, dtype=torch.int64)
    for num_atoms in (0, 3):
        row_ptr = torch.zeros(num_atoms + 1, dtype=torch.int64)
        sums, envelope_sum = bond_perceptron_sum(*random_inputs(0, 2, 3, 4, 5), no_bonds, row_ptr)
        assert sums.shape == (2, num_atoms, 5)
        assert not sums.any()
        assert torch.equal(envelope_sum, torch.zeros(num_atoms, dtype=torch.float64))
        grads = gradients(random_inputs(0, 2, 3, 4, 5), no_bonds, row_ptr)
        assert not any(grad.any() for grad in grads)
    pairs, row_ptr = random_bonds([4])
    sums, envelope_sum = bond_perceptron_sum(*random_inputs(pairs.shape[1], 0, 3, 4, 5), pairs, row_ptr)
    assert sums.shape == (0, 4, 5)
    assert (envelope_sum > 0).all()


def test_gradients_that_are_not_needed_are_not_computed():
    pairs, row_ptr = random_bonds([6])
    inputs = random_inputs(pairs.shape[1], 2, 3, 4, 5)
    grad_sums, grad_envelope_sum = torch.ones(2, 6, 5).double(), torch.ones(6).double()
    arguments = (grad_sums, grad_envelope_sum, *inputs, pairs, row_ptr, None)
    everything = OPS.bond_perceptron_sum_backward(*arguments)
    groups = (0, 1, 2, 2, 2, 2)
    for needed in range(7):
        needs = [bool(needed >> group & 1) for group in range(3)]
        some = OPS.bond_perceptron_sum_backward(*arguments, *needs)
        for grad, whole, group in zip(some, everything, groups, strict=False):
            if needs[group]:
                # Within rounding: the compiler contracts loops without a gradient in another way.
                torch.testing.assert_close(grad, whole, rtol=1e-12, atol=1e-12)
            else:
                assert grad.shape == (0,)


BAD_BOND = "with atoms in [0, 2), got a bond in another atom's segment or an index out of range"


def bad(message, **change):
    return pytest.param(message, change, id=message[:50])


@pytest.mark.parametrize(
    ("message", "change"),
    [
        bad("expected `bond_scalar` of dtype float32 or float64, got int64", bond_scalar=torch.ones(2, 3).long()),
        bad("expected `envelope` of shape [E] = [2], got [2, 1]", envelope=torch.ones(2, 1)),
        bad(
            "expected `envelope` of the dtype of `bond_scalar` (float32), got float64", envelope=torch.ones(2).double()
        ),
        bad("expected `weight1` of shape [M, C, H] with C = 3 as in `bond_scalar`, got", weight1=torch.ones(2, 4, 5)),
        bad("expected `bias1` of shape [M, H] = [2, 5], got [2, 4]", bias1=torch.ones(2, 4)),
        bad("expected `weight2` of shape [M, H, D] with M = 2 and H = 5 as in", weight2=torch.ones(1, 5, 4)),
        bad("expected `bias2` of shape [M, D] = [2, 4], got [4]", bias2=torch.ones(4)),
        bad("expected `bias2` on the device of `bond_scalar` (cpu), got meta", bias2=torch.ones(2, 4, device="meta")),
        bad("expected `pairs` of shape [2, E] with E = 2 as in", pairs=torch.zeros(2, 3, dtype=torch.int64)),
        bad("expected `sum_scalar` of shape [2, E] = [2, 2], got [2]", sum_scalar=torch.ones(2)),
        bad("expected `row_ptr` from 0 to the number of bonds, 2, got 0 to 1", row_ptr=torch.tensor([0, 1, 1])),
        bad(
            BAD_BOND,
            pairs=torch.tensor([[0, 1], [1, 1]]),
        ),
        bad(
            BAD_BOND,
            pairs=torch.tensor([[0, 0], [1, 2]]),
        ),
        bad(
            BAD_BOND,
            pairs=torch.tensor([[0, 0], [1, -1]]),
        ),
        bad(BAD_BOND, row_ptr=torch.tensor([0, 3, 2])),
    ],
)
def test_bad_input(message, change):
    arguments = {
        "bond_scalar": torch.ones(2, 3),
        "envelope": torch.ones(2),
        "weight1": torch.ones(2, 3, 5),
        "bias1": torch.ones(2, 5),
        "weight2": torch.ones(2, 5, 4),
        "bias2": torch.ones(2, 4),
        "pairs": torch.tensor([[0, 0], [0, 1]]),
        "row_ptr": torch.tensor([0, 2, 2]),
    } | change
    with pytest.raises(RuntimeError) as error:
        bond_perceptron_sum(**arguments)
    assert message in str(error.value)
    assert str(error.value).startswith("bond_perceptron_sum: expected")


def test_bad_input_of_backward():
    pairs, row_ptr = random_bonds([6])
    arguments = (*random_inputs(pairs.shape[1], 2, 3, 4, 5), pairs, row_ptr)
    with pytest.raises(RuntimeError, match=r"sum_backward: expected `grad_sums` of shape \[M, N, D\] = \[2, 6, 5\]"):
        OPS.bond_perceptron_sum_backward(torch.ones(2, 5, 6).double(), None, *arguments, None)
    with pytest.raises(RuntimeError, match="expected `sum_scalar` for its gradient, got none"):
        OPS.bond_perceptron_sum_backward(None, None, *arguments, None, True, True, True, True)


def test_bad_indices_of_backward():
    pairs, row_ptr = random_bonds([6, 3])
    tensors = random_inputs(pairs.shape[1], 2, 3, 4, 5)
    for side, value in ((0, 9), (0, -1), (1, 9), (1, -(2**40))):
        wrong = pairs.clone()
        wrong[side, 4] = value
        grads = torch.ones(2, 9, 5).double(), torch.ones(9).double()
        for some in (grads, (None, grads[1])):
            with pytest.raises(RuntimeError, match="bond_perceptron_sum_backward: expected `pairs` sorted by center"):
                OPS.bond_perceptron_sum_backward(*some, *tensors, wrong, row_ptr, None)

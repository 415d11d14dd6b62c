# SPDX-License-Identifier: MIT
"""The networks of the native encoder on atoms: equal to the reference implementations, to the bit for any threads."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dtnn_fast import ops, reference
from dtnn_fast.ops.atom_readout import num_readout_weights
from dtnn_fast.ops.atom_update import num_update_weights

OPS = torch.ops.dtnn_fast
# Numbers of atoms and channels: of one row, of many tiles, that fill vectors and that do not.
SHAPES = [(1, 1, 1, 1), (7, 5, 3, 2), (700, 20, 17, 9), (130, 128, 32, 32)]


def atoms(num_atoms: int, scalar: int, vector: int, rank2: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = (num_atoms, scalar), (num_atoms, 3, vector), (num_atoms, 6, rank2)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def weights(count: int, scalar: int) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(1), dtype=torch.float64) / scalar**0.5


def update_inputs(num_atoms: int, scalar: int, vector: int, rank2: int) -> list[Tensor]:
    sums = atoms(num_atoms, scalar, vector, vector, seed=2)
    count = num_update_weights(scalar, vector, rank2)
    return [*atoms(num_atoms, scalar, vector, rank2), *sums, weights(count, scalar)]


def readout_inputs(num_atoms: int, scalar: int, vector: int, rank2: int) -> list[Tensor]:
    count = num_readout_weights(scalar, vector, rank2, 6, 4, 5)
    return [*atoms(num_atoms, scalar, vector, rank2), weights(count, scalar)]


CASES: dict[str, tuple[Callable, Callable, Callable]] = {
    "atom_update": (update_inputs, ops.atom_update, reference.atom_update),
    "atom_readout": (
        readout_inputs,
        lambda *x: ops.atom_readout(*x, 6, 4, 5),
        lambda *x: reference.atom_readout(*x, 6, 4, 5),
    ),
}


def gradients(function: Callable, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    leaves = [x.clone().requires_grad_() for x in inputs]
    return torch.autograd.grad(torch.stack([x.sin().sum() for x in function(*leaves)]).sum(), leaves)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_reference_with_gradients(name, shape):
    make, native, expected = CASES[name]
    inputs = make(*shape)
    torch.testing.assert_close(native(*inputs), expected(*inputs))
    torch.testing.assert_close(gradients(native, inputs), gradients(expected, inputs))


@pytest.mark.parametrize("name", CASES)
def test_float32_is_close_to_float64(name):
    make, native, _ = CASES[name]
    inputs = make(50, 128, 32, 32)
    for single, exact in zip(native(*(x.float() for x in inputs)), native(*inputs), strict=True):
        assert (single - exact).abs().max() < 2e-5 * exact.abs().max()


@pytest.mark.parametrize("name", CASES)
def test_same_bits_for_any_number_of_threads(name):
    make, native, _ = CASES[name]
    inputs = [x.float() for x in make(900, 33, 16, 8)]
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append((*native(*inputs), *gradients(native, inputs)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_atoms_do_not_depend_on_each_other(name):
    make, native, _ = CASES[name]
    *values, flat = (x.float() for x in make(200, 20, 16, 8))
    whole = native(*values, flat)
    some = native(*(x[40:] for x in values), flat)
    assert all(torch.equal(a[40:], b) for a, b in zip(whole, some, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_without_atoms(name):
    make, native, _ = CASES[name]
    inputs = make(0, 5, 3, 2)
    assert all(x.shape[0] == 0 for x in native(*inputs))
    assert not any(grad.any() for grad in gradients(native, inputs))


def test_tensors_of_the_readout_are_traceless():
    _, _, rank2 = ops.atom_readout(*readout_inputs(20, 5, 3, 2), 6, 4, 5)
    torch.testing.assert_close(rank2[:, :3].sum(1), torch.zeros(20, 5, dtype=torch.float64), rtol=0, atol=1e-12)


def test_gradients_that_are_not_needed_are_not_computed():
    inputs = update_inputs(9, 5, 3, 2)
    grads = atoms(9, 5, 3, 2, seed=3)
    everything = OPS.atom_update_backward(*grads, *inputs)
    for needed in range(8):
        needs = [bool(needed >> group & 1) for group in range(3)]
        some = OPS.atom_update_backward(*grads, *inputs, *needs)
        for grad, whole, group in zip(some, everything, (0, 0, 0, 1, 1, 1, 2), strict=True):
            if needs[group]:
                # Within rounding: the compiler contracts loops without a gradient in another way.
                torch.testing.assert_close(grad, whole, rtol=1e-12, atol=1e-12)
            else:
                assert grad.shape == (0,)


def bad(name, message, **change):
    return pytest.param(name, message, change, id=f"{name} {message[:40]}")


@pytest.mark.parametrize(
    ("name", "message", "change"),
    [
        bad("atom_update", "expected `scalar` of dtype float32 or float64", scalar=torch.ones(4, 5).long()),
        bad("atom_update", "expected `vector` of shape [N, 3, C] with N = 4 as", vector=torch.ones(4, 6, 3).double()),
        bad("atom_update", "expected `sum_scalar` of shape [N, 5] with N = 4", sum_scalar=torch.ones(4, 4).double()),
        bad("atom_update", "expected `sum_rank2` of shape [N, 6, 3] with N", sum_rank2=torch.ones(4, 6, 2).double()),
        bad("atom_update", "expected `sum_vector` of the dtype of `scalar` (float64)", sum_vector=torch.ones(4, 3, 3)),
        bad("atom_update", "expected `weights` of shape [P] = [", weights=torch.ones(3).double()),
        bad("atom_update", "expected `vector` with at least one channel", vector=torch.ones(4, 3, 0).double()),
        bad("atom_readout", "expected `rank2` of shape [N, 6, C] with N = 4", rank2=torch.ones(3, 6, 2).double()),
        bad("atom_readout", "expected `scalar_out`, `vector_out` and `rank2_out` of 1 or more", vector_out=0),
        bad("atom_readout", "expected `scalar_out`, `vector_out` and `rank2_out` of 1 or more", rank2_out=2**40),
        bad("atom_readout", "expected `weights` of shape [P] = [", scalar_out=7),
    ],
)
def test_bad_input(name, message, change):
    if name == "atom_update":
        names = ["scalar", "vector", "rank2", "sum_scalar", "sum_vector", "sum_rank2", "weights"]
        arguments = dict(zip(names, update_inputs(4, 5, 3, 2), strict=True))
    else:
        arguments = dict(zip(["scalar", "vector", "rank2", "weights"], readout_inputs(4, 5, 3, 2), strict=True))
        arguments |= {"scalar_out": 6, "vector_out": 4, "rank2_out": 5}
    with pytest.raises(RuntimeError) as error:
        getattr(ops, name)(**(arguments | change))
    assert str(error.value).startswith(f"{name}: {message}")

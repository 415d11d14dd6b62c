# SPDX-License-Identifier: MIT
"""Functions of bond vectors: equal to the reference implementation, smooth at the cutoff."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dtnn_fast import reference
from dtnn_fast.ops import bond_geometry
from dtnn_fast.ops._reference_gradients import second_gradients

OPS = torch.ops.dtnn_fast


def random_vectors(num_bonds: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(num_bonds)
    return (2 * torch.randn(num_bonds, 3, generator=generator, dtype=torch.float64)).to(dtype)


def gradients(function, vectors: Tensor, *numbers: float) -> Tensor:
    leaf = vectors.clone().requires_grad_()
    results = function(leaf, *numbers)
    (grad,) = torch.autograd.grad(torch.stack([x.sin().sum() for x in results]).sum(), leaf)
    return grad


@pytest.mark.parametrize("num_radial", [0, 1, 8, 33])
@pytest.mark.parametrize("num_bonds", [0, 1, 5000])
def test_equals_reference_with_gradients(num_bonds, num_radial):
    """Some bonds are longer than the cutoff."""
    vectors = random_vectors(num_bonds)
    torch.testing.assert_close(
        bond_geometry(vectors, 4.0, num_radial), reference.bond_geometry(vectors, 4.0, num_radial)
    )
    ours, theirs = (gradients(f, vectors, 4.0, num_radial) for f in (bond_geometry, reference.bond_geometry))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("absent", [(), (0, 3), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize(("num_bonds", "num_radial"), [(0, 3), (1, 0), (5000, 8)])
def test_second_derivatives_equal_those_of_the_reference(num_bonds, num_radial, absent):
    """Some bonds are longer than the cutoff; absent gradients are zero."""
    vectors = random_vectors(num_bonds)
    outputs = reference.bond_geometry(vectors, 4.0, num_radial)
    generator = torch.Generator().manual_seed(1)
    change, *grads = (torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in (vectors, *outputs))
    for place in absent:
        grads[place].zero_()
    expected = second_gradients(lambda x: reference.bond_geometry(x, 4.0, num_radial), [vectors], grads, [change])
    given = [None if place in absent else grad for place, grad in enumerate(grads)]
    results = OPS.bond_geometry_double_backward(change, *given, vectors, 4.0, num_radial)
    torch.testing.assert_close(list(results), [*expected[0], *expected[1]], rtol=1e-10, atol=1e-10)
    alone = OPS.bond_geometry_double_backward(change, *given, vectors, 4.0, num_radial, False)
    assert alone[-1].shape == (0,)
    assert all(torch.equal(a, b) for a, b in zip(alone[:-1], results[:-1], strict=True))


def test_float32_is_close_to_float64():
    vectors = random_vectors(5000, torch.float32)
    for single, exact in zip(bond_geometry(vectors, 5.0, 8), bond_geometry(vectors.double(), 5.0, 8), strict=True):
        assert (single - exact).abs().max() < 4e-6 * exact.abs().max()


def test_smooth_cutoff_ends_at_the_cutoff():
    lengths = torch.tensor([0.5, 2.999999, 3.0, 3.5], dtype=torch.float64)
    vectors = torch.stack([lengths, 0 * lengths, 0 * lengths], dim=1).requires_grad_()
    length, direction, envelope, radial = bond_geometry(vectors, 3.0, 2)
    assert torch.equal(length, lengths)
    assert torch.equal(direction[:, 0], torch.ones(4, dtype=torch.float64))
    assert envelope[1].abs() < 1e-14  # a difference of numbers up to 48
    assert envelope[2:].tolist() == [0, 0]
    assert radial[2].abs().max() < 1e-15
    (slope,) = torch.autograd.grad(envelope.sum(), vectors)
    assert slope[2:].abs().max() == 0


def test_zero_vectors_give_nan():
    _, direction, envelope, radial = bond_geometry(torch.zeros(1, 3), 3.0, 2)
    assert direction.isnan().all()
    assert envelope.item() == 1
    assert radial.isnan().all()


def test_same_bits_for_any_number_of_threads():
    vectors = random_vectors(20000, torch.float32)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append((*bond_geometry(vectors, 4.0, 8), gradients(bond_geometry, vectors, 4.0, 8)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("expected `vectors` of dtype float32 or float64, got int64", (torch.ones(2, 3).long(), 3.0, 2)),
        ("expected `vectors` of shape [E, 3], got [3, 2]", (torch.ones(3, 2), 3.0, 2)),
        ("expected a finite `cutoff` above 0, got 0", (torch.ones(2, 3), 0.0, 2)),
        ("expected a finite `cutoff` above 0, got nan", (torch.ones(2, 3), float("nan"), 2)),
        ("expected `num_radial` from 0 to 1048576, got -1", (torch.ones(2, 3), 3.0, -1)),
    ],
)
def test_bad_input(message, arguments):
    with pytest.raises(RuntimeError) as error:
        bond_geometry(*arguments)
    assert str(error.value).startswith(f"bond_geometry: {message}")


def test_bad_input_of_backward():
    with pytest.raises(
        RuntimeError, match=r"bond_geometry_backward: expected `grad_radial` of shape \[E, R\] = \[2, 4\]"
    ):
        OPS.bond_geometry_backward(None, None, None, torch.ones(2, 3), torch.ones(2, 3), 3.0, 4)

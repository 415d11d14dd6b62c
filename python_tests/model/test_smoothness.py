# SPDX-License-Identifier: MIT
"""Value, first and second derivatives of the tensor stay continuous where the list of neighbors changes."""

import numpy as np
import pytest
import torch
from model_cases import VARIANTS, variant
from torch import Tensor

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.nn.radial import bessel_basis, smooth_cutoff

CUTOFFS = (3.0, 4.0, 6.0)
# A weight on each element, so that none can hide.
WEIGHTS = torch.tensor([[1.0, 0.7, -0.4], [0.7, -1.3, 0.9], [-0.4, 0.9, 0.5]], dtype=torch.float64)


def molecule_in_a_box(distance: float) -> Crystal:
    """An atom at `distance` from the first one; the others break every symmetry. No images within 6 Angstrom."""
    direction = np.array([0.48, 0.6, 0.64])
    rest = [[0.0, 0.0, 0.0], [1.7, -0.9, 0.3], [-0.6, -1.5, 1.1]]
    positions = np.array([distance * direction, *rest])
    return Crystal.make("box", [8, 22, 38, 16], positions + 1.0, 25.0 * np.eye(3))


def derivatives(name: str, distance: float) -> tuple[Tensor, int]:
    """Value, slope and curvature as the first atom moves away from the second, and the number of bonds."""
    model = variant(name)
    graph = model.graph([molecule_in_a_box(distance)])
    direction = torch.tensor([[0.48, 0.6, 0.64], [0, 0, 0], [0, 0, 0], [0, 0, 0]], dtype=torch.float64)
    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    moved = type(graph)(graph.atomic_numbers, graph.positions + t * direction, graph.cell, graph.ptr, graph.tiers)
    value = (model(moved)["total"][0] * WEIGHTS).sum()
    (slope,) = torch.autograd.grad(value, t, create_graph=True)
    (curvature,) = torch.autograd.grad(slope, t)
    return torch.stack([value, slope, curvature]).detach(), sum(tier.num_bonds for tier in graph.tiers)


@pytest.mark.parametrize(
    ("name", "cutoff"),
    [
        (name, cutoff)
        for name, settings in VARIANTS.items()
        for cutoff in sorted(set(settings.encoder.cutoffs[: settings.decoder.layer]))
    ],
)
def test_two_derivatives_are_continuous_across_each_cutoff(name, cutoff):
    gaps = []
    for step in (1e-4, 1e-5):
        (before, with_bond), (after, without_bond) = (derivatives(name, cutoff + side) for side in (-step, step))
        assert with_bond == without_bond + 1
        gaps.append((before - after).abs())
    # What is continuous gets ten times closer; a jump would stay.
    nearby, _ = derivatives(name, cutoff - 0.4)
    assert (gaps[1] < 0.15 * gaps[0] + 1e-9 * (1 + nearby.abs())).all(), gaps


@pytest.mark.parametrize("name", ["layer1-bonds-plain", "layer4-bonds-residual", "layer5-simple-plain"])
def test_derivatives_are_those_of_the_values_on_the_way_to_the_cutoffs(name):
    step = 1e-4
    for distance in (2.5, 2.99, 3.7, 3.99, 5.0, 5.98):
        (minus, _), (here, _), (plus, _) = (derivatives(name, distance + k * step) for k in (-1, 0, 1))
        slope, curvature = (plus[0] - minus[0]) / (2 * step), (plus[1] - minus[1]) / (2 * step)
        torch.testing.assert_close(here[1], slope, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(here[2], curvature, rtol=1e-4, atol=2e-4)


def test_the_bond_that_crosses_matters_on_the_near_side():
    near, _ = derivatives("layer4-bonds-residual", 5.0)
    far, _ = derivatives("layer4-bonds-residual", 7.0)
    assert (near - far).abs()[0] > 1e-3
    # Beyond every cutoff nothing depends on the distance.
    assert (far[1:].abs() < 1e-14).all()


@pytest.mark.parametrize("cutoff", CUTOFFS)
def test_the_cutoff_function_ends_with_two_zero_derivatives(cutoff):
    length = torch.tensor([cutoff, 1.5 * cutoff], dtype=torch.float64, requires_grad=True)
    value = smooth_cutoff(length, cutoff)
    (slope,) = torch.autograd.grad(value.sum(), length, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), length)
    for derivative in (value, slope, curvature):
        assert derivative.abs().max() < 1e-12
    lengths = torch.linspace(0, cutoff, 101, dtype=torch.float64)
    inside = smooth_cutoff(lengths, cutoff)
    assert inside[0] == 1
    assert (inside.diff() <= 1e-15).all()
    x = 0.4
    expected = 1 - 28 * x**6 + 48 * x**7 - 21 * x**8
    assert smooth_cutoff(torch.tensor([0.4 * cutoff], dtype=torch.float64), cutoff).item() == pytest.approx(expected)


def test_the_radial_basis_is_orthonormal_and_ends_at_zero():
    cutoff, count = 4.0, 5
    r = torch.linspace(1e-6, cutoff, 20001, dtype=torch.float64)
    basis = bessel_basis(r, cutoff, count)
    assert basis[-1].abs().max() < 1e-12
    overlaps = torch.trapezoid(basis[:, :, None] * basis[:, None] * r[:, None, None] ** 2, r, dim=0)
    torch.testing.assert_close(overlaps, torch.eye(count, dtype=torch.float64), rtol=0, atol=1e-6)

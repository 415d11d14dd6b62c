# SPDX-License-Identifier: MIT
"""Spherical features become Cartesian ones that turn as vectors and tensors do and keep their norms."""

from __future__ import annotations

import pytest
import torch

from dtnn_fast.encoders.sevennet import rank2_from_irreps, vectors_from_irreps
from dtnn_fast.nn.symmetric_tensors import norm_squared, square, trace


def test_channels_of_vectors_come_last():
    components = torch.tensor([[1.0, 2.0, 3.0, 10.0, 20.0, 30.0]])
    assert vectors_from_irreps(components).tolist() == [[[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]]


def test_rank2_is_traceless_and_keeps_the_norm():
    components = torch.randn(7, 20, dtype=torch.float64)
    tensors = rank2_from_irreps(components)
    torch.testing.assert_close(trace(tensors), torch.zeros(7, 4, dtype=torch.float64))
    torch.testing.assert_close(norm_squared(tensors), components.unflatten(1, (4, 5)).square().sum(-1))


def test_rank2_of_a_direction_is_its_traceless_square():
    o3 = pytest.importorskip("e3nn.o3")
    directions = torch.nn.functional.normalize(torch.randn(9, 3, dtype=torch.float64), dim=-1)
    harmonics = o3.spherical_harmonics(2, directions, normalize=True, normalization="norm")
    expected = square(directions.unsqueeze(-1)) - torch.tensor([1.0, 1, 1, 0, 0, 0]).double().view(6, 1) / 3
    # A unit vector's traceless square has the norm sqrt(2 / 3); e3nn's harmonics here have the norm 1.
    torch.testing.assert_close(rank2_from_irreps(harmonics), expected * 1.5**0.5)


def test_they_turn_as_e3nn_says():
    o3 = pytest.importorskip("e3nn.o3")
    # From angles: e3nn's way back from a matrix loses digits where its arc cosine is steep.
    angles = torch.tensor([0.3, 1.1, -2.0], dtype=torch.float64)
    turn = o3.angles_to_matrix(*angles)
    vectors, tensors = torch.randn(5, 6, dtype=torch.float64), torch.randn(5, 10, dtype=torch.float64)
    wigner = [torch.block_diag(*[o3.Irreps(name).D_from_angles(*angles)] * 2) for name in ("1e", "2e")]
    turned = vectors_from_irreps(vectors @ wigner[0].T)
    torch.testing.assert_close(turned, turn @ vectors_from_irreps(vectors), atol=1e-5, rtol=1e-5)
    xx, yy, zz, yz, xz, xy = rank2_from_irreps(tensors).unbind(1)
    matrices = torch.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], dim=-1).unflatten(-1, (3, 3))
    expected = turn @ matrices @ turn.T
    xx, yy, zz, yz, xz, xy = rank2_from_irreps(tensors @ wigner[1].T).unbind(1)
    result = torch.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], dim=-1).unflatten(-1, (3, 3))
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)

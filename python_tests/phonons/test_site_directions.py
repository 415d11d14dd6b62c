# SPDX-License-Identifier: MIT
"""Directions of displacements in the 32 point groups: they span space, at the smallest price."""

from __future__ import annotations

import numpy as np
import pytest
from model_cases import orthogonal

from dtnn_fast.phonons.site_directions import site_directions

moyopy = pytest.importorskip("moyopy")


def point_group(space_group: int) -> np.ndarray:
    """Rotations of a space group in a random frame and a cell that it allows."""
    operations = moyopy.operations_from_number(space_group, setting=moyopy.Setting.spglib(), primitive=True)
    matrices = np.unique(np.asarray(operations.rotations), axis=0)
    metric = np.mean([w.T @ (np.eye(3) + 0.1) @ w for w in matrices], axis=0)
    columns = orthogonal(space_group, improper=False) @ np.linalg.cholesky(metric).T
    return columns @ matrices @ np.linalg.inv(columns)


# Symmorphic groups of the geometric crystal classes with fewest displacements above 1.
PRICES = {1: 6, 2: 3, 3: 3, 6: 4, 10: 2, 143: 2, 16: 2, 25: 2, 156: 2, 195: 1, 47: 1, 149: 1, 221: 1}


@pytest.mark.parametrize("space_group", range(1, 231, 3))
def test_images_span_space(space_group):
    rotations = point_group(space_group)
    directions, needs_both = site_directions(rotations)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    images = np.einsum("hij,dj->dhi", rotations, directions)
    spread = np.einsum("dhi,dhj->ij", images, images) / len(rotations)
    assert np.linalg.eigvalsh(spread)[0] >= 0.1 * len(directions)
    for direction, own_images, both in zip(directions, images, needs_both, strict=True):
        assert both != (np.abs(own_images + direction).max(1) < 1e-9).any()


@pytest.mark.parametrize("space_group", PRICES)
def test_prices(space_group):
    directions, needs_both = site_directions(point_group(space_group))
    assert len(directions) + needs_both.sum() == PRICES[space_group]

# SPDX-License-Identifier: MIT
"""Contours enclose the fraction of the points that they are named after."""

import numpy as np
import pytest

from dtnn_fast.reporting.density import Grid, enclosed_fractions


@pytest.mark.parametrize(("gap", "spread"), [(4.0, 0.8), (0.0, 1.5)])
def test_contours_enclose_their_fraction_of_the_points(gap, spread):
    rng = np.random.default_rng(1)
    count = 20_000
    logs, gaps = rng.normal(1.0, 0.25, count), np.abs(rng.normal(gap, spread, count))
    grid = Grid(0.0, 2.0, 8.0)
    counts = grid.count_points(10.0**logs, gaps)
    assert counts.sum() == ((logs >= 0) & (logs <= 2) & (gaps <= 8)).sum()
    fractions = enclosed_fractions(counts)
    assert fractions.min() > 0.0
    assert fractions.max() == pytest.approx(1.0)
    for level in (0.3, 0.5, 0.7, 0.9):
        inside = counts[fractions <= level].sum() / counts.sum()
        # The kernel makes the cloud a little wider, by which contours enclose a little more.
        assert level - 0.02 < inside < level + 0.05


def test_the_density_is_largest_where_the_points_are():
    grid = Grid(0.0, 2.0, 8.0)
    counts = grid.count_points(np.full(50, 10.0), np.full(50, 4.0))
    row, column = np.unravel_index(enclosed_fractions(counts).argmin(), counts.shape)
    assert abs(grid.gaps[row] - 4.0) <= grid.top / grid.rows
    assert abs(np.log10(grid.permittivities[column]) - 1.0) <= 2.0 / grid.columns


def test_density_at_gap_zero_is_not_lowered_by_the_end_of_the_axis():
    rng = np.random.default_rng(2)
    grid = Grid(0.0, 2.0, 8.0)
    counts = grid.count_points(np.full(20_000, 10.0), np.abs(rng.normal(0.0, 1.0, 20_000)))
    assert np.unravel_index(enclosed_fractions(counts).argmin(), counts.shape)[0] == 0

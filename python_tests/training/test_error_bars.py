# SPDX-License-Identifier: MIT
"""Spread and its calibration by hand, and that error bars hold what they promise on fresh crystals."""

from __future__ import annotations

import numpy as np
import pytest

from dtnn_fast.model.predictor import spread
from dtnn_fast.training.error_bars import coverage, error_scale


def test_spread_is_the_deviation_over_the_six_unique_elements():
    members = np.zeros((2, 1, 3, 3))
    members[1, 0] = np.diag([2.0, 0.0, 0.0])
    assert spread(members)[0] == pytest.approx(np.sqrt(1.0 / 6))
    members[1, 0] = [[0.0, 4.0, 0.0], [4.0, 0.0, 0.0], [0.0, 0.0, 0.0]]  # one unique element
    assert spread(members)[0] == pytest.approx(np.sqrt(4.0 / 6))


def make(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Members around a prediction whose error is three times their spread, with crystals of very different spread."""
    rng = np.random.default_rng(seed)
    size = rng.lognormal(size=(count, 1, 1))
    middle = rng.normal(size=(count, 3, 3))
    symmetric = [m + m.transpose(0, 2, 1) for m in size * rng.normal(size=(6, count, 3, 3))]
    off = size * rng.normal(size=(count, 3, 3))
    return middle + np.array(symmetric[:5]), middle + 1.5 * (off + off.transpose(0, 2, 1))


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_the_promised_share_of_fresh_crystals_is_covered(level):
    scale = error_scale(*make(2000, 0), level=level)
    assert coverage(*make(4000, 1), scale) == pytest.approx(level, abs=0.02)
    assert scale > 0.5


def test_the_scale_is_the_smallest_that_covers_enough():
    members, expected = make(19, 2)
    scale = error_scale(members, expected)  # ceil(0.9 * 20) = 18 of the 19
    assert coverage(members, expected, scale * (1 + 1e-12)) == pytest.approx(18 / 19)
    assert coverage(members, expected, scale * 0.999999) == pytest.approx(17 / 19)


def test_what_cannot_be_calibrated_is_refused():
    members, expected = make(8, 3)
    with pytest.raises(ValueError, match=r"expected more crystals for a level of 0\.9, got 8"):
        error_scale(members, expected)
    members, expected = make(30, 3)
    with pytest.raises(ValueError, match="members that differ"):
        error_scale(members[:1], expected)

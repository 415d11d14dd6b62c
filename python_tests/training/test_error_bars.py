# SPDX-License-Identifier: MIT
"""Spread and its calibration by hand, and that error bars hold what they promise on fresh crystals."""

from __future__ import annotations

import numpy as np
import pytest

from dtnn_fast.model.predictor import mean_permittivity, mean_spread, spread
from dtnn_fast.training.error_bars import Quantity, coverage, error_scale


def test_spread_is_the_deviation_over_the_six_unique_elements():
    members = np.zeros((2, 1, 3, 3))
    members[1, 0] = np.diag([2.0, 0.0, 0.0])
    assert spread(members)[0] == pytest.approx(np.sqrt(1.0 / 6))
    members[1, 0] = [[0.0, 4.0, 0.0], [4.0, 0.0, 0.0], [0.0, 0.0, 0.0]]  # one unique element
    assert spread(members)[0] == pytest.approx(np.sqrt(4.0 / 6))


def test_spread_of_the_mean_is_the_deviation_of_a_third_of_the_trace():
    members = np.zeros((2, 1, 3, 3))
    members[1, 0] = [[6.0, 1.0, 2.0], [1.0, 0.0, 3.0], [2.0, 3.0, 0.0]]
    assert mean_spread(members)[0] == pytest.approx(1.0)  # means 0 and 2
    members[1, 0] = np.diag([2.0, -1.0, -1.0])
    assert mean_spread(members)[0] == 0.0
    assert spread(members)[0] > 0.0


def make(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Members around a prediction whose error is three times their spread, with crystals of very different spread."""
    rng = np.random.default_rng(seed)
    size = rng.lognormal(size=(count, 1, 1))
    middle = rng.normal(size=(count, 3, 3))
    symmetric = [m + m.transpose(0, 2, 1) for m in size * rng.normal(size=(6, count, 3, 3))]
    off = size * rng.normal(size=(count, 3, 3))
    return middle + np.array(symmetric[:5]), middle + 1.5 * (off + off.transpose(0, 2, 1))


@pytest.mark.parametrize("quantity", Quantity)
@pytest.mark.parametrize("level", [0.5, 0.9])
def test_the_promised_share_of_fresh_crystals_is_covered(level, quantity):
    scale = error_scale(*make(2000, 0), level=level, quantity=quantity)
    assert coverage(*make(4000, 1), scale, quantity) == pytest.approx(level, abs=0.02)
    assert scale > 0.5


@pytest.mark.parametrize("quantity", Quantity)
def test_the_scale_is_the_smallest_that_covers_enough(quantity):
    members, expected = make(19, 2)
    scale = error_scale(members, expected, quantity=quantity)  # ceil(0.9 * 20) = 18 of the 19
    assert coverage(members, expected, scale * (1 + 1e-12), quantity) == pytest.approx(18 / 19)
    assert coverage(members, expected, scale * 0.999999, quantity) == pytest.approx(17 / 19)


def test_the_bar_of_the_mean_covers_the_error_of_the_mean():
    members, expected = make(500, 4)
    scale = error_scale(members, expected, quantity=Quantity.mean)
    errors = np.abs(mean_permittivity(members.mean(0) - expected))
    assert (errors <= scale * mean_permittivity(members).std(0)).mean() == pytest.approx(0.9, abs=0.003)
    # In cubic crystals the error of the mean is twice the mean absolute error of the six elements.
    isotropic = mean_permittivity(members)[..., None, None] * np.eye(3)
    known = mean_permittivity(expected)[..., None, None] * np.eye(3)
    tensor_scale = error_scale(isotropic, known)
    mean_errors = np.abs(mean_permittivity(isotropic.mean(0) - known))
    assert (mean_errors <= tensor_scale * spread(isotropic)).mean() < 0.75


def test_what_cannot_be_calibrated_is_refused():
    members, expected = make(8, 3)
    with pytest.raises(ValueError, match=r"expected more crystals for a level of 0\.9, got 8"):
        error_scale(members, expected)
    members, expected = make(30, 3)
    with pytest.raises(ValueError, match="members that differ"):
        error_scale(members[:1], expected)

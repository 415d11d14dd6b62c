# SPDX-License-Identifier: MIT
"""Spread and calibration by hand, and that error bars hold what they promise on fresh crystals of any size."""

from __future__ import annotations

import numpy as np
import pytest

from dtnn_fast.model.error_calibration import ErrorCalibration
from dtnn_fast.model.predictor import mean_permittivity, mean_spread, spread
from dtnn_fast.training.error_bars import Quantity, calibrate, coverage
from dtnn_fast.training.metrics import crystal_errors

# Spread and error of each quantity.
MEASURES = {Quantity.tensor: (spread, "mae_ten"), Quantity.mean: (mean_spread, "mae_mean_diag")}


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


def make_by_size(count: int, seed: int, growth: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Crystals with means from 1 to 60 whose members agree too well where the prediction is large.

    The ratio of error to spread grows with the mean, and the spread tells only half of the error's variance.
    """
    rng = np.random.default_rng(seed)
    mean = 1 + np.exp(rng.normal(1.5, 1.0, size=(count, 1, 1)))
    own = rng.lognormal(-2.0, 0.5, size=(count, 1, 1))
    noise = rng.normal(size=(6, count, 3, 3))
    noise = 0.5 * (noise + noise.transpose(0, 1, 3, 2))
    members = mean * np.eye(3) + 0.3 * own * mean * noise[:5]
    return members, members.mean(0) + 0.3 * own * mean**growth * noise[5] * rng.lognormal(0, 0.5, size=(count, 1, 1))


@pytest.mark.parametrize("quantity", Quantity)
@pytest.mark.parametrize("level", [0.5, 0.9])
def test_the_promised_share_of_fresh_crystals_is_covered(level, quantity):
    made = calibrate(*make(8000, 0), level=level, quantity=quantity)
    fresh = make(16000, 1)
    assert coverage(*fresh, made, quantity).share == pytest.approx(level, abs=0.015)
    # Sizes say nothing about these errors: small and large predictions have bars in the same proportion to them.
    measure, metric = MEASURES[quantity]
    means, errors = mean_permittivity(fresh[0].mean(0)), crystal_errors(fresh[0].mean(0), fresh[1])[metric]
    bars = made.bars(measure(fresh[0]), means)
    small, large = np.array_split(np.argsort(means), 2)
    ratio = np.median(bars[small]) / np.median(errors[small]) / (np.median(bars[large]) / np.median(errors[large]))
    assert 1 / 1.2 < ratio < 1.2
    # The spread says much: bars are as long as the errors are large.
    order = np.argsort(measure(fresh[0]))
    few, many = order[: len(order) // 10], order[-len(order) // 10 :]
    assert np.median(bars[many]) / np.median(bars[few]) > 0.6 * np.median(errors[many]) / np.median(errors[few])


@pytest.mark.parametrize("quantity", Quantity)
def test_each_third_of_the_sizes_is_covered(quantity):
    made = calibrate(*make_by_size(3000, 0), quantity=quantity, vacuum=1.0)
    fresh = make_by_size(6000, 1)
    covered = coverage(*fresh, made, quantity)
    assert covered.share == pytest.approx(0.9, abs=0.015)
    assert covered.by_third == pytest.approx((0.9,) * 3, abs=0.02)
    # One factor for all is right on average alone.
    members, expected = make_by_size(3000, 0)
    measure, metric = MEASURES[quantity]
    ratios = crystal_errors(members.mean(0), expected)[metric] / measure(members)
    plain = coverage(*fresh, ErrorCalibration.plain(float(np.quantile(ratios, 0.9))), quantity)
    assert plain.share == pytest.approx(0.9, abs=0.015)
    assert plain.by_third[0] > 0.95
    assert plain.by_third[2] < 0.85


def test_thirds_are_those_of_the_predicted_mean():
    members, expected = make_by_size(7, 3)
    order = np.argsort(mean_permittivity(members.mean(0)))
    known = members.mean(0) + 0.01 * np.eye(3)
    known[order[5:]] += 1e6  # out of the bar
    known[order[3]] += 1e6
    covered = coverage(members, known, ErrorCalibration.plain(1e4))
    assert covered.by_third == (1.0, 0.5, 0.0)  # thirds of 3, 2 and 2
    assert covered.share == pytest.approx(4 / 7)
    assert coverage(members[:, :0], expected[:0], ErrorCalibration.plain(1.0)).share is None
    assert coverage(members[:, :1], known[:1], ErrorCalibration.plain(1e4)).by_third[1:] == (None, None)


@pytest.mark.parametrize("quantity", Quantity)
def test_the_factor_is_the_smallest_that_covers_enough(quantity):
    members, expected = make(19, 2)
    made = calibrate(members, expected, quantity=quantity)  # ceil(0.9 * 20) = 18 of the 19
    (factor,) = made.factors
    assert made.size_weight == 0.0
    more, less = (ErrorCalibration.plain(factor * part) for part in (1 + 1e-12, 0.999999))
    assert coverage(members, expected, more, quantity).share == pytest.approx(18 / 19)
    assert coverage(members, expected, less, quantity).share == pytest.approx(17 / 19)


@pytest.mark.parametrize(("count", "num_factors"), [(9, 1), (30, 1), (59, 1), (60, 2), (89, 2), (90, 3), (5000, 3)])
def test_few_crystals_have_fewer_factors(count, num_factors):
    members, expected = make_by_size(count, 7)
    made = calibrate(members, expected, vacuum=1.0)
    assert len(made.factors) == len(made.sizes) == num_factors
    order = np.argsort(mean_permittivity(members.mean(0)))
    for part, size, factor in zip(np.array_split(order, num_factors), made.sizes, made.factors, strict=True):
        assert size == pytest.approx(np.median(mean_permittivity(members.mean(0))[part] - 1))
        if num_factors == 1:  # several are interpolated; see the next test
            alone = ErrorCalibration((1.0,), (factor * (1 + 1e-12),), vacuum=1.0)
            covered = coverage(members[:, part], expected[part], alone).share
            assert covered == pytest.approx(np.ceil(0.9 * (count + 1)) / count)


@pytest.mark.parametrize("quantity", Quantity)
def test_three_factors_by_hand(quantity):
    members, expected = make_by_size(300, 9)
    made = calibrate(members, expected, quantity=quantity, vacuum=1.0)
    sizes = mean_permittivity(members.mean(0)) - 1
    measure, metric = MEASURES[quantity]
    spreads, errors = measure(members), crystal_errors(members.mean(0), expected)[metric]
    ratios = errors / np.hypot(spreads, made.size_weight * sizes)
    bins = np.split(np.argsort(sizes), 3)
    centres = [np.log(np.median(sizes[part])) for part in bins]
    factors = np.array([np.sort(ratios[part])[90] for part in bins])  # ceil(0.9 * 101) = 91 of the 100
    between = np.interp(np.log(sizes), centres, factors)
    needed = [np.sort((ratios / between)[part])[90] for part in bins]
    np.testing.assert_allclose(made.factors, factors * needed)
    # The weight has a smaller quantile loss than no weight, and larger ones have a clearly larger loss.
    losses = {}
    for part in (0.0, 1.0, 4.0):
        scores = np.hypot(spreads, part * made.size_weight * sizes)
        above = np.concatenate([errors[b] - np.sort((errors / scores)[b])[90] * scores[b] for b in bins])
        losses[part] = np.maximum(0.9 * above, -0.1 * above) / np.concatenate([sizes[b] for b in bins])
    assert losses[0.0].mean() > losses[1.0].mean()
    more = losses[4.0] - losses[1.0]
    assert more.mean() > more.std() / np.sqrt(300)


def test_members_that_agree_get_no_bars_above_the_value_by_accident():
    """Members agree a hundred times better than they are right, and by accident much worse on one crystal in fifty."""
    rng = np.random.default_rng(2)
    mean = np.exp(rng.normal(2, 1, size=(900, 1, 1)))
    own = 0.05 * rng.lognormal(0, 0.8, size=(900, 1, 1))
    apart = np.where(rng.random((900, 1, 1)) < 0.02, 0.3, 0.01) * own
    members = mean * np.eye(3) * (1 + apart * rng.normal(size=(5, 900, 1, 1)))
    expected = members.mean(0) * (1 + own * rng.normal(size=(900, 1, 1)))
    made = calibrate(members[:, :300], expected[:300], quantity=Quantity.mean)
    fresh, means = members[:, 300:], mean_permittivity(members[:, 300:].mean(0))
    bars = made.bars(mean_spread(fresh), means)
    assert coverage(fresh, expected[300:], made, Quantity.mean).share > 0.87
    assert (bars < means).all()


def test_a_high_level_needs_larger_bins():
    assert len(calibrate(*make_by_size(240, 0), level=0.98, vacuum=1.0).factors) == 3
    assert len(calibrate(*make_by_size(120, 0), level=0.98, vacuum=1.0).factors) == 2  # ceil(0.98 * 61) = 60 of 60
    assert len(calibrate(*make_by_size(90, 0), level=0.98, vacuum=1.0).factors) == 1


def test_predictions_of_equal_size_have_one_factor():
    members, expected = make(400, 4)
    shift = (5.0 - mean_permittivity(members))[..., None, None] * np.eye(3)
    made = calibrate(members + shift, expected)
    assert len(made.factors) == 1
    # Sizes below the least one are equal, too. With 250 of them, two of three bins would have the same size.
    members, expected = make_by_size(400, 4)
    members[:, :250], expected[:250] = members[:, :250] - 100 * np.eye(3), expected[:250] - 100 * np.eye(3)
    assert len(calibrate(members, expected, vacuum=1.0).factors) == 2


def test_the_size_helps_where_members_agree_by_accident():
    """Errors of a tenth of the size, and a spread that says nothing: the bars are as wide as the errors ask for."""
    rng = np.random.default_rng(0)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        mean = np.exp(rng.normal(2, 1, size=(count, 1, 1)))
        members = mean * np.eye(3) * (1 + rng.lognormal(-5, 2, size=(count, 1, 1)) * rng.normal(size=(5, count, 1, 1)))
        return members, mean * np.eye(3) * (1 + 0.1 * rng.normal(size=(count, 1, 1)))

    made = calibrate(*draw(3000), quantity=Quantity.mean)
    members, expected = draw(3000)
    covered = coverage(members, expected, made, Quantity.mean)
    assert covered.by_third == pytest.approx((0.9,) * 3, abs=0.03)
    means = mean_permittivity(members.mean(0))
    bars = made.bars(mean_spread(members), means)
    # 1.645 standard deviations cover 90 %.
    assert np.median(bars / means) == pytest.approx(0.1645, rel=0.15)
    plain = ErrorCalibration.plain(float(np.quantile(np.abs(means - expected[:, 0, 0]) / mean_spread(members), 0.9)))
    assert np.median(plain.bars(mean_spread(members), means) / means) > 2 * 0.1645


def test_zeros_by_symmetry_do_not_count():
    members, expected = make_by_size(200, 5)
    zeros = np.zeros((5, 300, 3, 3))
    made = calibrate(members, expected)
    assert calibrate(np.concatenate([zeros, members], 1), np.concatenate([zeros[0], expected])) == made
    # Also where the label is not quite zero.
    together = np.concatenate([zeros, members], 1), np.concatenate([zeros[0] + 0.01, expected])
    assert calibrate(*together) == made
    assert coverage(*together, made) == coverage(members, expected, made)


def test_members_that_agree_on_some_crystals():
    """No division by zero: their bars come from the size."""
    for count in (40, 300):
        members, expected = make_by_size(count, 6)
        members[:, ::3] = members[:, ::3].mean(0)
        with np.errstate(all="raise"):
            for quantity in Quantity:
                made = calibrate(members, expected, quantity=quantity, vacuum=1.0)
                assert made.size_weight > 0
                measure, _ = MEASURES[quantity]
                assert (made.bars(measure(members), mean_permittivity(members.mean(0))) > 0).all()
                # In one bin or three: a few crystals between the bins' centres may come or go.
                assert coverage(members, expected, made, quantity).share == pytest.approx(0.92, abs=0.05)


def test_predictions_without_an_error():
    members, _ = make_by_size(100, 8)
    made = calibrate(members, members.mean(0), vacuum=1.0)
    assert made.factors == pytest.approx((0.0,) * 3, abs=1e-12)
    assert coverage(members, members.mean(0), ErrorCalibration.plain(0.0)).share == 1.0


def test_the_bar_of_the_mean_covers_the_error_of_the_mean():
    members, expected = make(59, 4)
    (factor,) = calibrate(members, expected, quantity=Quantity.mean).factors
    errors = np.abs(mean_permittivity(members.mean(0) - expected))
    covered = errors <= factor * (1 + 1e-12) * mean_permittivity(members).std(0)
    assert covered.mean() == pytest.approx(54 / 59)
    # In cubic crystals the error of the mean is twice the mean absolute error of the six elements.
    members, expected = make(500, 4)
    isotropic = mean_permittivity(members)[..., None, None] * np.eye(3)
    known = mean_permittivity(expected)[..., None, None] * np.eye(3)
    of_tensors = calibrate(isotropic, known)
    mean_errors = np.abs(mean_permittivity(isotropic.mean(0) - known))
    bars = of_tensors.bars(spread(isotropic), mean_permittivity(isotropic.mean(0)))
    assert (mean_errors <= bars).mean() < 0.75


def test_what_cannot_be_calibrated_is_refused():
    members, expected = make(8, 3)
    with pytest.raises(ValueError, match=r"calibrate: expected more crystals for a level of 0\.9, got 8"):
        calibrate(members, expected)
    members, expected = make(30, 3)
    with pytest.raises(ValueError, match="members that differ"):
        calibrate(members[:1], expected)
    members[:, 8:] = 0.0
    with pytest.raises(ValueError, match=r"more crystals for a level of 0\.9, got 8"):
        calibrate(members, expected)

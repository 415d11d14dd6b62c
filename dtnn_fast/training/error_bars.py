# SPDX-License-Identifier: MIT
"""Error bars of an ensemble: calibrated on its errors by the size of the prediction, and the share that they cover.

A tensor and its mean (a third of the trace) have error bars of their own, because their errors differ: symmetry makes
up to four of the six elements of a tensor exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from ..model.error_calibration import ErrorCalibration, is_exact
from ..model.predictor import mean_permittivity, mean_spread, spread
from .metrics import crystal_errors

# Share of crystals whose error the error bars shall cover.
LEVEL = 0.9
# With fewer crystals, ceil(level (n + 1)) would be more than all of them, so error bars could not be scaled.
FEWEST_CRYSTALS = 9
# Each third of the sizes has its own factor where it has so many crystals. With fewer, two or one factor scatter less.
FEWEST_IN_BIN = 30
MOST_BINS = 3
# Weights of the size that are tried, in parts of the median of spread / size.
_WEIGHTS = np.concatenate([[0.0], np.geomspace(1 / 30, 30, 41)])


class Quantity(StrEnum):
    """What an error bar belongs to."""

    tensor = "tensor"
    mean = "mean"


class _Measures(NamedTuple):
    """Error and spread of a quantity: a name of `METRICS`, and a function of [members, B, 3, 3] that gives [B]."""

    error: str
    spread: Callable[[np.ndarray], np.ndarray]


_MEASURES = {
    Quantity.tensor: _Measures("mae_ten", spread),
    Quantity.mean: _Measures("mae_mean_diag", mean_spread),
}


def mean_and_spread(
    members: np.ndarray, unseen: np.ndarray, quantity: Quantity = Quantity.tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Average the members that were not trained on a crystal, and estimate the spread that all members would have.

    The variance of the m members that count, out of M, is multiplied by ``m (M - 1) / ((m - 1) M)``, which gives the
    variance that is expected of M members.

    Args:
        members: tensors of each member. [members, B, 3, 3].
        unseen: whether a member was not trained on a crystal; at least two members for each crystal. [M, B], bool.
        quantity: whose spread is estimated.

    Returns:
        The average tensors [B, 3, 3] and the spread [B].
    """
    count = unseen.sum(0)
    weights = unseen / count
    average = np.einsum("mb,mbij->bij", weights, members)
    # Members that do not count are replaced by the average, which adds nothing to the variance.
    kept = np.where(unseen[:, :, None, None], members, average)
    # A single member has no spread.
    return average, _MEASURES[quantity].spread(kept) * np.sqrt((len(members) - 1) / np.maximum(count - 1, 1))


def calibrate(
    members: np.ndarray,
    expected: np.ndarray,
    level: float = LEVEL,
    unseen: np.ndarray | None = None,
    quantity: Quantity = Quantity.tensor,
    vacuum: float = 0.0,
) -> ErrorCalibration:
    """Find the error bars that cover the errors of an ensemble on a share of the crystals, whatever their size.

    Split conformal prediction with a score that is scaled for each crystal (J. Lei et al., arXiv 1604.04173, section
    5.2), in bins of the predicted mean (V. Vovk, arXiv 1209.2673). The crystals are sorted by size into three bins of
    equal number, or fewer where a bin had less than `FEWEST_IN_BIN` crystals. In each bin, the factor is the smallest f
    with |error| <= f score for ceil(level (n + 1)) of its n crystals. It is put at the median size of the bin, and
    interpolated between (`ErrorCalibration`). Interpolated bars cover a little more or less of a bin: each factor is
    multiplied once by what its bin needs for the same number of crystals.

    The score is sqrt(spread^2 + (w size)^2), since members agree by accident. The weight w is judged by the quantile
    loss (R. Koenker and G. Bassett, Econometrica 46, 33, 1978) in parts of the size, averaged over the crystals:
    ``max(level x, (level - 1) x) / size``, x the error minus the bar. Of the weights whose loss is above the smallest
    one by no more than the standard error of this difference, the largest is taken (the one-standard-error rule of L.
    Breiman et al., Classification and Regression Trees, 1984): where it matters little, bars shall depend on the size
    rather than on accident. With one bin, w is zero and the factor the one of all crystals, unless members agree
    exactly on some crystal.

    The error of a tensor is the MAE_ten of its crystal, that of a mean is the MAE_mean-diag. For a crystal that some
    members were trained on, only the other members are averaged. Their error is larger than that of all members, so the
    factors are on the safe side. Crystals whose prediction is exactly zero have no error bar, and do not count.

    Args:
        members: tensors of each member. [members, B, 3, 3].
        expected: [B, 3, 3].
        level: share of crystals to cover, between 0 and 1.
        unseen: whether a member was not trained on a crystal, at least two members for each crystal; None where no
            member was trained on any. [members, B], bool.
        quantity: whose errors are covered.
        vacuum: mean from which the size counts: 0 for the ionic tensor, 1 for the others.

    Raises:
        ValueError: there are too few crystals for this level, or the members do not differ on any crystal.
    """
    if unseen is None:
        unseen = np.ones(members.shape[:2], dtype=bool)
    average, spreads = mean_and_spread(members, unseen, quantity)
    errors, means = crystal_errors(average, expected)[_MEASURES[quantity].error], mean_permittivity(average)
    counted = ~is_exact(spreads, means)
    errors, spreads, means = errors[counted], spreads[counted], means[counted]
    if _num_covered(level, len(errors)) > len(errors):
        raise ValueError(f"calibrate: expected more crystals for a level of {level}, got {len(errors)}")
    if not (spreads > 0).any():
        raise ValueError("calibrate: expected members that differ, got equal ones")
    without_factor = ErrorCalibration((1.0,), (1.0,), vacuum=vacuum)
    sizes = without_factor.size(means)
    bins = _bins(sizes, level)
    # Without a weight, members that agree exactly on a crystal would have to be right.
    if len(bins) > 1 or not (spreads > 0).all():
        without_factor = replace(without_factor, size_weight=_size_weight(errors, spreads, sizes, bins, level))
    made = replace(
        without_factor,
        sizes=tuple(float(np.median(sizes[chosen])) for chosen in bins),
        factors=_quantiles(errors / without_factor.score(spreads, means), bins, level),
    )
    if len(bins) == 1 or min(made.factors) == 0:
        return made
    needed = _quantiles(errors / made.bars(spreads, means), bins, level)
    return replace(made, factors=tuple(factor * more for factor, more in zip(made.factors, needed, strict=True)))


def _quantiles(ratios: np.ndarray, bins: Sequence[np.ndarray], level: float) -> tuple[float, ...]:
    """Find the smallest number that ceil(level (n + 1)) of the n ratios of each bin do not exceed."""
    return tuple(float(np.sort(ratios[chosen])[_num_covered(level, len(chosen)) - 1]) for chosen in bins)


def _num_covered(level: float, count: int) -> int:
    return int(np.ceil(level * (count + 1)))


def _bins(sizes: np.ndarray, level: float) -> list[np.ndarray]:
    """Sort crystals by size into bins of nearly equal number, whose median sizes differ by a tenth or more."""
    order = np.argsort(sizes, kind="stable")
    for num_bins in range(MOST_BINS, 1, -1):
        bins = np.array_split(order, num_bins)
        medians = np.array([np.median(sizes[chosen]) for chosen in bins])
        fewest = len(bins[-1])
        if fewest >= max(FEWEST_IN_BIN, _num_covered(level, fewest)) and (medians[1:] >= 1.1 * medians[:-1]).all():
            return bins
    return [order]


def _size_weight(
    errors: np.ndarray, spreads: np.ndarray, sizes: np.ndarray, bins: Sequence[np.ndarray], level: float
) -> float:
    """Choose the weight of the size in the score by the quantile loss of the bars; see `calibrate`.

    A likelihood would be ruled by typical errors. Members that agree on most crystals would get a small weight and
    large factors, and the few crystals on which they happen to disagree bars above their value.
    """
    usual = float(np.median((spreads / sizes)[spreads > 0]))
    weights = [weight * usual for weight in _WEIGHTS.tolist() if weight > 0 or (spreads > 0).all()]
    losses = [_quantile_losses(errors, np.hypot(spreads, weight * sizes), bins, level) / sizes for weight in weights]
    best = min(losses, key=np.mean)
    more = [own - best for own in losses]
    within_noise = [own.mean() <= own.std() / np.sqrt(len(own)) for own in more]
    return max(weight for weight, is_allowed in zip(weights, within_noise, strict=True) if is_allowed)


def _quantile_losses(errors: np.ndarray, scores: np.ndarray, bins: Sequence[np.ndarray], level: float) -> np.ndarray:
    """Compute ``max(level x, (level - 1) x)``, x the error minus the bar, with a factor for each bin. [B]."""
    above = np.empty_like(errors)
    for factor, chosen in zip(_quantiles(errors / scores, bins, level), bins, strict=True):
        above[chosen] = errors[chosen] - factor * scores[chosen]
    return np.maximum(level * above, (level - 1) * above)


@dataclass(frozen=True)
class Coverage:
    """Share of crystals whose error is within its error bar.

    Args:
        share: of all crystals; None where there are none.
        by_third: of the thirds with the smallest, the middle and the largest predicted mean; None for an empty third.
    """

    share: float | None
    by_third: tuple[float | None, float | None, float | None]

    @classmethod
    def of(cls, covered: np.ndarray, means: np.ndarray) -> Coverage:
        """Count crystals.

        Args:
            covered: whether the error is within the error bar. [B], bool.
            means: predicted mean permittivities. [B].
        """
        low, middle, high = np.array_split(covered[np.argsort(means, kind="stable")], 3)
        return cls(_share(covered), (_share(low), _share(middle), _share(high)))


def coverage(
    members: np.ndarray, expected: np.ndarray, calibration: ErrorCalibration, quantity: Quantity = Quantity.tensor
) -> Coverage:
    """Compute the share of crystals whose error is within the error bar, and of those of each third by size.

    Crystals whose prediction is exactly zero are left out.

    Args:
        members: tensors of each member, none of which was trained on a crystal. [members, B, 3, 3].
        expected: [B, 3, 3].
        calibration: what `calibrate` gave for this quantity.
        quantity: whose errors are compared.
    """
    average, measures = members.mean(0), _MEASURES[quantity]
    spreads, means = measures.spread(members), mean_permittivity(average)
    covered = crystal_errors(average, expected)[measures.error] <= calibration.bars(spreads, means)
    counted = ~is_exact(spreads, means)
    return Coverage.of(covered[counted], means[counted])


def _share(covered: np.ndarray) -> float | None:
    return float(covered.mean()) if len(covered) else None

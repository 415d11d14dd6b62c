# SPDX-License-Identifier: MIT
"""Error bars of an ensemble: factors from the spread of its members to their errors, and the share that they cover.

A tensor and its mean (a third of the trace) have error bars of their own, because their errors differ: symmetry makes
up to four of the six elements of a tensor exact.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from ..model.predictor import mean_spread, spread
from .metrics import crystal_errors

# Share of crystals whose error the error bars shall cover.
LEVEL = 0.9
# With fewer crystals, ceil(level (n + 1)) would be more than all of them, so error bars could not be scaled.
FEWEST_CRYSTALS = 9


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
        members: tensors of each member. [M, B, 3, 3].
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


def error_scale(
    members: np.ndarray,
    expected: np.ndarray,
    level: float = LEVEL,
    unseen: np.ndarray | None = None,
    quantity: Quantity = Quantity.tensor,
) -> float:
    """Compute the factor by which the spread of an ensemble covers its errors on a share of the crystals.

    It is the smallest c with |error| <= c spread for ceil(level (n + 1)) of the n crystals: split conformal prediction
    (A. N. Angelopoulos and S. Bates, arXiv 2107.07511). The error of a tensor is the MAE_ten of its crystal, that of a
    mean is the MAE_mean-diag. For a crystal that some members were trained on, only the other members are averaged.
    Their error is larger than that of all members, so the factor is on the safe side.

    Args:
        members: tensors of each member. [members, B, 3, 3].
        expected: [B, 3, 3].
        level: share of crystals to cover, between 0 and 1.
        unseen: whether a member was not trained on a crystal, at least two members for each crystal; None where no
            member was trained on any. [members, B], bool.
        quantity: whose errors are covered.

    Returns:
        The factor.

    Raises:
        ValueError: there are too few crystals for this level, or the members do not differ.
    """
    if unseen is None:
        unseen = np.ones(members.shape[:2], dtype=bool)
    average, spreads = mean_and_spread(members, unseen, quantity)
    errors = crystal_errors(average, expected)[_MEASURES[quantity].error]
    num_covered = int(np.ceil(level * (len(errors) + 1)))
    if num_covered > len(errors):
        raise ValueError(f"error_scale: expected more crystals for a level of {level}, got {len(errors)}")
    if not (spreads > 0).all():
        raise ValueError("error_scale: expected members that differ on every crystal, got equal ones")
    return float(np.sort(errors / spreads)[num_covered - 1])


def coverage(members: np.ndarray, expected: np.ndarray, scale: float, quantity: Quantity = Quantity.tensor) -> float:
    """Compute the share of crystals whose error is within the error bar; see `error_scale`."""
    error, spread_of = _MEASURES[quantity]
    errors = crystal_errors(members.mean(0), expected)[error]
    return float((errors <= scale * spread_of(members)).mean())

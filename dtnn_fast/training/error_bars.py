# SPDX-License-Identifier: MIT
"""Error bars from the spread of an ensemble, with a factor that validation crystals give."""

from __future__ import annotations

import numpy as np

from ..model.spread import spread
from .metrics import crystal_errors

LEVEL = 0.9
# Fewer crystals cannot show that this part of them is covered: ceil(level (n + 1)) of n would be more than all.
FEWEST_CRYSTALS = 9


def mean_and_spread(members: np.ndarray, unseen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of the members that were not trained on a crystal, and the spread that all members would have.

    The variance of the m members that count, out of M, is multiplied by ``m (M - 1) / ((m - 1) M)``, which makes it
    what that of M members is expected to be.

    Args:
        members: tensors of each member. [M, B, 3, 3].
        unseen: which members were not trained on a crystal, at least two for each. [M, B], bool.

    Returns:
        [B, 3, 3] and [B].
    """
    count = unseen.sum(0)
    weights = unseen / count
    mean = np.einsum("mb,mbij->bij", weights, members)
    # Members that do not count are put where they add nothing.
    kept = np.where(unseen[:, :, None, None], members, mean)
    # A single member has no spread.
    return mean, spread(kept) * np.sqrt((len(members) - 1) / np.maximum(count - 1, 1))


def error_scale(
    members: np.ndarray, expected: np.ndarray, level: float = LEVEL, unseen: np.ndarray | None = None
) -> float:
    """The factor with which the spread of an ensemble covers its errors on a share of the crystals.

    The smallest c with |error| <= c spread for ceil(level (n + 1)) of the n crystals: split conformal prediction
    (A. N. Angelopoulos and S. Bates, arXiv 2107.07511), with a crystal's MAE_ten for its error. Where some members were
    trained on a crystal, the others stand for all, whose error is smaller: the factor is then on the safe side.

    Args:
        members: tensors of each member. [members, B, 3, 3].
        expected: [B, 3, 3].
        level: share of crystals to cover, between 0 and 1.
        unseen: which members were not trained on a crystal, at least two for each; None for all. [members, B], bool.

    Returns:
        The factor.

    Raises:
        ValueError: there are too few crystals for this level, or the members do not differ.
    """
    everywhere = np.ones(members.shape[:2], dtype=bool) if unseen is None else unseen
    mean, spreads = mean_and_spread(members, everywhere)
    errors = crystal_errors(mean, expected)["mae_ten"]
    place = int(np.ceil(level * (len(errors) + 1)))
    if place > len(errors):
        raise ValueError(f"error_scale: expected more crystals for a level of {level}, got {len(errors)}")
    if not (spreads > 0).all():
        raise ValueError("error_scale: expected members that differ on every crystal, got equal ones")
    return float(np.sort(errors / spreads)[place - 1])


def coverage(members: np.ndarray, expected: np.ndarray, scale: float) -> float:
    """The share of crystals whose error is within the error bar; see `error_scale`."""
    errors = crystal_errors(members.mean(0), expected)["mae_ten"]
    return float((errors <= scale * spread(members)).mean())

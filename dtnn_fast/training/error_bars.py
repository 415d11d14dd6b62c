# SPDX-License-Identifier: MIT
"""Error bars from the spread of an ensemble, with a factor that validation crystals give."""

from __future__ import annotations

import numpy as np

from ..nn.spread import spread
from .metrics import crystal_errors

LEVEL = 0.9


def error_scale(members: np.ndarray, expected: np.ndarray, level: float = LEVEL) -> float:
    """The factor with which the spread of an ensemble covers its errors on a share of the crystals.

    The smallest c with |error| <= c spread for ceil(level (n + 1)) of the n crystals: split conformal prediction
    (A. N. Angelopoulos and S. Bates, arXiv 2107.07511), with a crystal's MAE_ten for its error.

    Args:
        members: tensors of each member for crystals that no member was trained on. [members, B, 3, 3].
        expected: [B, 3, 3].
        level: share of crystals to cover, between 0 and 1.

    Returns:
        The factor.

    Raises:
        ValueError: there are too few crystals for this level, or the members do not differ.
    """
    errors = crystal_errors(members.mean(0), expected)["mae_ten"]
    spreads = spread(members)
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

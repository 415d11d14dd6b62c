# SPDX-License-Identifier: MIT
"""Error bars from the spread of an ensemble's members and the size of their mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

# Sizes below this count as this: a relative error means nothing near zero, and the ionic mean of covalent crystals is
# a few hundredths.
LEAST_SIZE = 0.1
# How a program without this package computes error bars from `to_json`.
ERROR_BAR_FORMULA = (
    "mean: a third of the trace of the average over the members; spread: standard deviation over the members, of the "
    "mean, or of the six elements of the tensor as root mean square; size: mean - vacuum, at least "
    f"{LEAST_SIZE}; f: factors interpolated linearly in ln(size) between sizes, constant outside; "
    "bar: f * sqrt(spread^2 + (size_weight * size)^2)"
)


@dataclass(frozen=True)
class ErrorCalibration:
    """How the error bar of a tensor, or of a mean, follows from the members' spread and the predicted mean.

    With m the mean permittivity (a third of the trace, averaged over the members), the error bar is

        size = max(m - vacuum, LEAST_SIZE)
        bar = f(size) sqrt(spread^2 + (size_weight size)^2)

    f is linear in ln(size) between `sizes`, and constant below the first and above the last. So the bar is continuous
    in spread and mean, and rises with the spread at any size. It is zero where spread and mean are exactly zero, as for
    ionic parts that symmetry forbids. `dtnn_fast.training.error_bars.calibrate` finds the numbers.

    Args:
        sizes: sizes at which f is given. Positive, rising, at least one.
        factors: f at `sizes`, 0 or more.
        size_weight: error that members which agree exactly are expected to have, in parts of the size and up to f.
            0 or more.
        vacuum: mean permittivity from which the size counts: 0 for the ionic tensor, 1 for the others.

    Raises:
        ValueError: a number is out of its range.
    """

    sizes: tuple[float, ...]
    factors: tuple[float, ...]
    size_weight: float = 0.0
    vacuum: float = 0.0

    def __post_init__(self) -> None:
        numbers = (*self.sizes, *self.factors, self.size_weight, self.vacuum)
        if not all(map(isfinite, numbers)):
            raise ValueError(f"ErrorCalibration: expected finite numbers, got {self}")
        rising = all(low < high for low, high in zip((0.0, *self.sizes), self.sizes, strict=False))
        if not self.sizes or not rising:
            raise ValueError(f"ErrorCalibration: expected positive `sizes` that rise, got {list(self.sizes)}")
        if len(self.factors) != len(self.sizes) or min(self.factors) < 0:
            raise ValueError(
                f"ErrorCalibration: expected `factors` of 0 or more, one for each of the {len(self.sizes)} `sizes`, "
                f"got {list(self.factors)}"
            )
        if self.size_weight < 0:
            raise ValueError(f"ErrorCalibration: expected `size_weight` of 0 or more, got {self.size_weight}")

    @classmethod
    def plain(cls, factor: float) -> ErrorCalibration:
        """Make the calibration of models until version 0.1.0: a factor on the spread alone."""
        return cls((1.0,), (factor,))

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values, from which `from_plain` makes the calibration again."""
        return {
            "sizes": list(self.sizes),
            "factors": list(self.factors),
            "size_weight": self.size_weight,
            "vacuum": self.vacuum,
        }

    def size(self, means: np.ndarray) -> np.ndarray:
        """Compute the sizes of predicted mean permittivities. [B] -> [B]."""
        sizes: np.ndarray = np.maximum(means - self.vacuum, LEAST_SIZE)
        return sizes

    def score(self, spreads: np.ndarray, means: np.ndarray) -> np.ndarray:
        """Compute the error bars without their factor f, sqrt(spread^2 + (size_weight size)^2). [B], [B] -> [B]."""
        # The spread itself without a weight: as to the bit as ever, and no square that overflows.
        return np.hypot(spreads, self.size_weight * self.size(means)) if self.size_weight else spreads

    def bars(self, spreads: np.ndarray, means: np.ndarray) -> np.ndarray:
        """Compute error bars.

        Args:
            spreads: `spread` of the members' tensors, or `mean_spread`, as in the calibration. [B].
            means: mean permittivities of their averages. [B].

        Returns:
            [B], in units of the permittivity.
        """
        if len(self.sizes) == 1:
            bars = self.factors[0] * self.score(spreads, means)
        else:
            factors = np.interp(np.log(self.size(means)), np.log(self.sizes), self.factors)
            bars = factors * self.score(spreads, means)
        return np.where(is_exact(spreads, means), 0.0, bars)


def calibrations_to_json(targets: Sequence[str], calibrations: Sequence[ErrorCalibration]) -> dict[str, Any]:
    """Return calibrations as plain values by target; empty for no error bars."""
    return {target: own.to_json() for target, own in zip(targets, calibrations, strict=False)}


def is_exact(spreads: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Tell the predictions that are zero by symmetry, and have no error bar, by spread and mean. [B], [B] -> [B]."""
    exact: np.ndarray = (spreads == 0) & (means == 0)
    return exact

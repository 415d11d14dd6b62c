# SPDX-License-Identifier: MIT
"""Densities of crystals over band gap and permittivity, from counts on a grid."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Grid(NamedTuple):
    """Cells of equal size over the logarithm of the permittivity and over the band gap.

    Args:
        low: smallest decadic logarithm of the permittivity.
        high: largest decadic logarithm.
        top: largest band gap, eV; the smallest is 0.
        columns: number of cells along the permittivity.
        rows: number of cells along the gap.
    """

    low: float
    high: float
    top: float
    columns: int = 90
    rows: int = 70

    @property
    def permittivities(self) -> np.ndarray:
        """Permittivity at the centers of the cells. [columns], float64."""
        step = (self.high - self.low) / self.columns
        return 10.0 ** (self.low + step * (np.arange(self.columns) + 0.5))

    @property
    def gaps(self) -> np.ndarray:
        """Band gap at the centers of the cells. [rows], float64, eV."""
        return self.top / self.rows * (np.arange(self.rows) + 0.5)

    def count_points(self, permittivities: np.ndarray, gaps: np.ndarray) -> np.ndarray:
        """Count points by cell; points outside of the grid are not counted.

        Args:
            permittivities: positive. [M].
            gaps: eV. [M].

        Returns:
            [rows, columns], int64.
        """
        counts, _, _ = np.histogram2d(
            gaps,
            np.log10(permittivities),
            bins=(self.rows, self.columns),
            range=((0.0, self.top), (self.low, self.high)),
        )
        return counts.astype(np.int64)


def enclosed_fractions(counts: np.ndarray) -> np.ndarray:
    """Estimate the density by a Gaussian kernel, and find what fraction of the points lies where it is larger.

    A contour line of the result at 0.9 encloses 90 % of the points, in the smallest area possible. The width of the
    kernel follows Scott's rule (D. W. Scott, Multivariate Density Estimation, 1992): the standard deviation along each
    axis times M^(-1/6) for M points. Gaps are not negative, so what the kernel puts below 0 is reflected.

    Args:
        counts: number of points in each cell, at least one in all. [rows, columns]; row 0 is at gap 0.

    Returns:
        For each cell the fraction of the density in cells that are denser, itself included: 0 < f <= 1.
        [rows, columns].
    """
    total = float(counts.sum())
    density = counts / total
    widths = []
    for axis in (0, 1):
        places = np.arange(counts.shape[axis])
        marginal = counts.sum(axis=1 - axis) / total
        mean = (marginal * places).sum()
        deviation = float(np.sqrt((marginal * (places - mean) ** 2).sum()))
        # At least a cell, so that lines stay smooth.
        widths.append(max(deviation * total ** (-1 / 6), 1.0))
    for axis, width in enumerate(widths):
        density = _smooth(density, width, axis, reflect_low=axis == 0)
    order = np.argsort(density, axis=None)[::-1]
    fractions = np.empty(density.size)
    fractions[order] = np.cumsum(density.ravel()[order]) / density.sum()
    return fractions.reshape(density.shape)


def _smooth(density: np.ndarray, width: float, axis: int, reflect_low: bool) -> np.ndarray:
    """Convolve with a Gaussian of a width in cells; what leaves the grid is lost, except where it is reflected."""
    places = np.arange(density.shape[axis])
    kernel = np.exp(-0.5 * ((places[:, None] - places) / width) ** 2)
    if reflect_low:
        kernel += np.exp(-0.5 * ((places[:, None] + places + 1) / width) ** 2)
    smooth: np.ndarray = np.moveaxis(np.tensordot(kernel, density, axes=(1, axis)), 0, axis)
    return smooth

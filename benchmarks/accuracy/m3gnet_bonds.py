# SPDX-License-Identifier: MIT
"""The functions of a bond that M3GNet takes, and their change with a strain; no parameter enters either."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dtnn_fast.ops import bond_to_atom_sum

from .graphs import BondGraph

RADIAL, DEGREES = 3, 3  # functions of the length for each degree of the angle, and degrees 0, 1, 2


@dataclass(frozen=True)
class BondFunctions:
    """Functions of the bonds by which the energy depends on the geometry; bonds of angles are the short ones.

    Args:
        radial: smooth functions of the lengths. [E, 3].
        angular: those of the lengths of the short bonds times their cutoff, by degree. [S, 9].
        cutoff: cutoff of the short bonds. [S, 1].
        harmonics: harmonics of their directions, degree 0, 1 and 2, the last as a matrix. [S, 13].
    """

    radial: Tensor
    angular: Tensor
    cutoff: Tensor
    harmonics: Tensor

    def leaves(self) -> list[Tensor]:
        """The four, each a leaf to differentiate with respect to."""
        values = (self.radial, self.angular, self.cutoff, self.harmonics)
        return [value.detach().requires_grad_() for value in values]


class Bonds:
    """Lengths and directions of the bonds of a graph.

    Args:
        graph: bonds sorted by center.
        radial_cutoff: cutoff of the radial functions. Angstrom.
        angle_cutoff: bonds up to this length take part in angles. Angstrom.
    """

    def __init__(self, graph: BondGraph, radial_cutoff: float, angle_cutoff: float) -> None:
        self.graph = graph
        lengths = graph.vectors.norm(dim=1, keepdim=True)
        self.lengths, self.directions = lengths, graph.vectors / lengths
        self.short = (lengths[:, 0] <= angle_cutoff).nonzero()[:, 0]
        self.short_pairs = graph.pairs[:, self.short]
        # The short bonds of an atom start where as many short ones lie before it.
        self.short_row_ptr = torch.searchsorted(self.short, graph.row_ptr)

        values, slopes = smooth_bessel(lengths, RADIAL * DEGREES, radial_cutoff)
        ratio = lengths[self.short] / angle_cutoff
        cutoff = 1 - ratio**3 * (10 - 15 * ratio + 6 * ratio**2)
        cutoff_slope = -30 / angle_cutoff * (ratio * (1 - ratio)) ** 2
        angular, angular_slopes = values[self.short], slopes[self.short]
        self.functions = BondFunctions(
            values[:, :RADIAL].contiguous(), angular * cutoff, cutoff, direction_functions(self.directions[self.short])
        )
        self._radial_slopes = slopes[:, :RADIAL]
        self._angular_slopes = angular_slopes * cutoff + angular * cutoff_slope
        self._cutoff_slope = cutoff_slope

    def strain_derivative(
        self, grad_radial: Tensor, grad_angular: Tensor, grad_cutoff: Tensor, grad_harmonics: Tensor
    ) -> Tensor:
        """Turn derivatives with respect to the functions into derivatives with respect to the strain.

        ``dE / d eta = sum over bonds of d (x) dE / dd``, made symmetric. [B, 3, 3].
        """
        stretch = self.lengths * (grad_radial * self._radial_slopes).sum(1, keepdim=True)
        short_stretch = (grad_angular * self._angular_slopes).sum(1, keepdim=True) + grad_cutoff * self._cutoff_slope
        directions = self.directions[self.short]
        turn = direction_derivative(directions, grad_harmonics)
        along = self.lengths[self.short] * short_stretch - (turn * directions).sum(1, keepdim=True)
        grad_bonds = stretch * self.directions  # the length times dE / dd
        grad_bonds = grad_bonds.index_add(0, self.short, along * directions + turn)
        virials = (self.directions[:, :, None] * grad_bonds[:, None, :]).flatten(1)
        graph = self.graph
        grad_strain = graph.crystal_sum(bond_to_atom_sum(virials, graph.pairs, graph.row_ptr)).unflatten(1, (3, 3))
        return 0.5 * (grad_strain + grad_strain.mT)


def smooth_bessel(lengths: Tensor, count: int, cutoff: float) -> tuple[Tensor, Tensor]:
    """Radial functions that vanish with two derivatives at the cutoff (arXiv 1907.02374), and their slopes.

    Args:
        lengths: lengths of the bonds. [E, 1], Angstrom.
        count: number of the functions.
        cutoff: Angstrom.

    Returns:
        values: [E, count].
        slopes: derivatives with respect to the length. [E, count].
    """
    coefficients = lengths.new_tensor(_sinc_coefficients(count, cutoff)).mT
    wave_numbers = torch.arange(1, count + 2, dtype=lengths.dtype) * (math.pi / cutoff)
    phases = lengths * wave_numbers
    sinc = phases.sin() / phases
    return sinc @ coefficients, ((phases.cos() - sinc) / lengths) @ coefficients


def _sinc_coefficients(count: int, cutoff: float) -> list[list[float]]:
    """Of ``sin(k pi r / cutoff) / (k pi r / cutoff)``, k = 1 ... count + 1, in each function."""
    rows: list[list[float]] = []
    norm = 1.0
    for n in range(count):
        shift = n**2 * (n + 2) ** 2 / (4 * (n + 1) ** 4 + 1)
        previous, previous_norm = (rows[-1], norm) if rows else ([0.0] * (count + 1), 1.0)
        norm = 1 - shift / previous_norm if rows else 1.0
        first = (-1) ** n * math.sqrt(2 / ((n + 1) ** 2 + (n + 2) ** 2)) * math.pi / cutoff**1.5 * (n + 1) * (n + 2)
        row = [math.sqrt(shift / previous_norm) * value for value in previous]
        row[n] += first
        row[n + 1] += first
        rows.append([value / math.sqrt(norm) for value in row])
    return rows


# Y_l0(cos) of the angle between two directions is the scalar product of their functions of degree l.
_SCALE = [((2 * degree + 1) / (4 * math.pi)) ** 0.25 for degree in range(DEGREES)]
SELF_PRODUCTS = [scale**2 for scale in _SCALE]
COMPONENTS = (1, 3, 9)


def direction_functions(directions: Tensor) -> Tensor:
    """Degrees 0, 1 and 2 of unit vectors. [S, 3] -> [S, 13]."""
    square = directions[:, :, None] * directions[:, None, :] - torch.eye(3, dtype=directions.dtype) / 3
    constant = torch.full_like(directions[:, :1], _SCALE[0])
    return torch.cat([constant, _SCALE[1] * directions, math.sqrt(1.5) * _SCALE[2] * square.flatten(1)], dim=1)


def direction_derivative(directions: Tensor, grad_functions: Tensor) -> Tensor:
    """Turn derivatives with respect to the functions into those with respect to a direction. [S, 13] -> [S, 3]."""
    _, linear, square = grad_functions.split(COMPONENTS, dim=1)
    matrix = square.unflatten(1, (3, 3))
    turned = ((matrix + matrix.mT) * directions[:, None, :]).sum(2)
    return _SCALE[1] * linear + math.sqrt(1.5) * _SCALE[2] * turned

# SPDX-License-Identifier: MIT
"""Functions of the bond length: the smooth cutoff and a radial basis."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def smooth_cutoff(length: Tensor, cutoff: float) -> Tensor:
    """Evaluate a polynomial that falls from 1 to 0 at the cutoff, with zero first and second derivatives there.

    f = 1 - 28 x^6 + 48 x^7 - 21 x^8 with x = length / cutoff, and 0 beyond; the polynomial of
    J. Gasteiger et al., arXiv 2003.03123, Eq. 8, with p = 6.

    Args:
        length: bond lengths. [E], Angstrom.
        cutoff: Angstrom.

    Returns:
        Values in [0, 1]. [E].
    """
    x = (length / cutoff).clamp(max=1.0)
    x6 = x**6
    return 1.0 + x6 * (-28.0 + x * (48.0 - 21.0 * x))


def bessel_basis(length: Tensor, cutoff: float, count: int) -> Tensor:
    """Evaluate spherical Bessel functions of order 0 that are zero at the cutoff (arXiv 2003.03123, Eq. 7).

    e_k = sqrt(2 / cutoff) sin(k pi length / cutoff) / length,  k = 1 ... count

    Args:
        length: bond lengths, above 0. [E], Angstrom.
        cutoff: Angstrom.
        count: number of functions.

    Returns:
        Values of the basis. [E, count].
    """
    order = torch.arange(1, count + 1, dtype=length.dtype, device=length.device)
    scaled = length.unsqueeze(-1) * (order * (math.pi / cutoff))
    return math.sqrt(2.0 / cutoff) * torch.sin(scaled) / length.unsqueeze(-1)

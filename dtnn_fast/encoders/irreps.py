# SPDX-License-Identifier: MIT
"""Spherical components of e3nn as Cartesian vectors and symmetric rank-2 tensors.

e3nn's real spherical components of l = 1 are (x, y, z), and those of l = 2 belong to (xz, xy, 2yy - xx - zz, yz,
zz - xx): its polar axis is y (https://docs.e3nn.org, "Spherical Harmonics"). The maps below are orthogonal: the
Cartesian form has the same norm, with the off-diagonals of a tensor counted twice as everywhere in this package.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_HALF, _SIXTH = math.sqrt(1.0 / 2.0), math.sqrt(1.0 / 6.0)


def vectors_from_irreps(components: Tensor) -> Tensor:
    """Vectors from e3nn's l = 1 features, in which the components of a channel stand together.

    Args:
        components: [N, 3 * C].

    Returns:
        [N, 3, C].
    """
    return components.unflatten(1, (-1, 3)).transpose(1, 2).contiguous()


def rank2_from_irreps(components: Tensor) -> Tensor:
    """Traceless symmetric tensors from e3nn's l = 2 features, in which the components of a channel stand together.

    Args:
        components: [N, 5 * C].

    Returns:
        xx yy zz yz xz xy. [N, 6, C].
    """
    xz, xy, axial, yz, planar = components.unflatten(1, (-1, 5)).unbind(2)
    diagonal = [-_HALF * planar - _SIXTH * axial, 2.0 * _SIXTH * axial, _HALF * planar - _SIXTH * axial]
    return torch.stack([*diagonal, _HALF * yz, _HALF * xz, _HALF * xy], dim=1)

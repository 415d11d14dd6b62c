# SPDX-License-Identifier: MIT
"""Algebra of symmetric rank-2 tensors in the six components xx yy zz yz xz xy, channels last, and their matrices."""

from __future__ import annotations

import torch
from torch import Tensor

# Where the six components stand in the 3x3 matrix: tensors[..., UNIQUE_ROWS, UNIQUE_COLUMNS] is [..., 6].
UNIQUE_ROWS, UNIQUE_COLUMNS = (0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1)
# The component of each element of the 3x3 matrix, row after row.
MATRIX_COMPONENTS = (0, 5, 4, 5, 1, 3, 4, 3, 2)


def square(vector: Tensor) -> Tensor:
    """v (x) v. [..., 3, C] -> [..., 6, C]."""
    x, y, z = vector.unbind(-2)
    return torch.stack([x * x, y * y, z * z, y * z, x * z, x * y], dim=-2)


def symmetric_product(left: Tensor, right: Tensor) -> Tensor:
    """The symmetric part of a (x) b, (a (x) b + b (x) a) / 2. [..., 3, C] twice -> [..., 6, C]."""
    ax, ay, az = left.unbind(-2)
    bx, by, bz = right.unbind(-2)
    off = [0.5 * (ay * bz + az * by), 0.5 * (ax * bz + az * bx), 0.5 * (ax * by + ay * bx)]
    return torch.stack([ax * bx, ay * by, az * bz, *off], dim=-2)


def times_vector(tensor: Tensor, vector: Tensor) -> Tensor:
    """t @ v. [..., 6, C] and [..., 3, C] -> [..., 3, C]."""
    xx, yy, zz, yz, xz, xy = tensor.unbind(-2)
    x, y, z = vector.unbind(-2)
    return torch.stack([xx * x + xy * y + xz * z, xy * x + yy * y + yz * z, xz * x + yz * y + zz * z], dim=-2)


def direction_matrix(direction: Tensor) -> Tensor:
    """The matrix M(u) with t @ u = M(u) t for the six components t. [E, 3] -> [E, 3, 6]."""
    ux, uy, uz = direction.unbind(-1)
    zero = torch.zeros_like(ux)
    rows = [ux, zero, zero, zero, uz, uy, zero, uy, zero, uz, zero, ux, zero, zero, uz, uy, ux, zero]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 6))


def norm_squared(components: Tensor) -> Tensor:
    """|x|^2 of vectors [..., 3, C] or tensors [..., 6, C], whose off-diagonals count twice. -> [..., C]."""
    if components.shape[-2] == 3:
        return (components * components).sum(-2)
    diagonal, off_diagonal = components.split(3, dim=-2)
    return (diagonal * diagonal).sum(-2) + 2.0 * (off_diagonal * off_diagonal).sum(-2)


def trace(tensor: Tensor) -> Tensor:
    """tr t. [..., 6, C] -> [..., C]."""
    return tensor[..., :3, :].sum(-2)


def traceless(tensor: Tensor) -> Tensor:
    """t - 1/3 (tr t) 1. [..., 6, C] -> [..., 6, C]."""
    diagonal, off_diagonal = tensor.split(3, dim=-2)
    return torch.cat([diagonal - diagonal.mean(-2, keepdim=True), off_diagonal], dim=-2)


def symmetric_matrices(components: Tensor) -> Tensor:
    """Write symmetric tensors as matrices. [N, 6, C] -> [N, C, 3, 3]."""
    return torch.stack([components[:, place] for place in MATRIX_COMPONENTS], dim=-1).unflatten(-1, (3, 3))


def cross_matrices(axis: Tensor) -> Tensor:
    """Write the cross product with vectors as matrices. [N, 3] -> [N, 3, 3]."""
    x, y, z = axis.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))

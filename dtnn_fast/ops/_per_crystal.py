# SPDX-License-Identifier: MIT
"""Vectors of atoms times the matrices of their crystals."""

from __future__ import annotations

from torch import Tensor


def times_matrix(vectors: Tensor, matrices: Tensor, crystal: Tensor) -> Tensor:
    """``vectors[n] @ matrices[crystal[n]]``, much faster than a batched product of so small matrices. [N, 3]."""
    if len(matrices) == 1:
        return vectors @ matrices[0]
    x, y, z = vectors[:, :, None].unbind(1)
    a, b, c = matrices.unbind(1)
    return x * a.index_select(0, crystal) + y * b.index_select(0, crystal) + z * c.index_select(0, crystal)

# SPDX-License-Identifier: MIT
"""The vector of each bond."""

from __future__ import annotations

from torch import Tensor

from .. import reference


def bond_vectors(positions: Tensor, cell: Tensor, pairs: Tensor, shifts: Tensor, ptr: Tensor | None = None) -> Tensor:
    """The vector of each bond from center to neighbor, the differentiable part of a neighbor list.

    ``d = (r_j - r_i) + ((s_0 a + s_1 b) + s_2 c)`` with the lattice vectors a, b, c of the bond's crystal.

    Args:
        positions: Cartesian positions. [N, 3], float32 or float64, Angstrom.
        cell: lattice vectors as rows, [B, 3, 3], or [3, 3] for one crystal; dtype of `positions`, Angstrom.
        pairs: centers and neighbors. [2, E], int64.
        shifts: lattice translations of the neighbors. [E, 3], int32.
        ptr: crystal b owns the atoms ``ptr[b]:ptr[b + 1]``; None for one crystal. [B+1], int64.

    Returns:
        Bond vectors. [E, 3], dtype of `positions`, Angstrom.

    Raises:
        RuntimeError: a shape, dtype or device does not fit, an index is out of range, or a bond joins two crystals.

    Example:
        >>> positions, cell = torch.zeros(1, 3), 2 * torch.eye(3)
        >>> bond_vectors(positions, cell, torch.tensor([[0], [0]]), torch.tensor([[0, 0, 1]], dtype=torch.int32))
        tensor([[0., 0., 2.]])
    """
    return reference.bond_vectors(positions, cell, pairs, shifts, ptr)

# SPDX-License-Identifier: MIT
"""Rotations of the bonds of a crystal of which only the symmetry-distinct atoms and bonds are stored."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class BondTurns(NamedTuple):
    """Rotations and counts by which stored bonds, one of each symmetry orbit, represent all bonds of a crystal.

    Both indices of a bond point to stored atoms. The neighbor itself is the image of its stored atom under the rotation
    R: its vectors are R v and its symmetric tensors R t R^T. In the sums the bond counts several times at each end; at
    the neighbor its message is turned back by R^T. After the sums, vectors and tensors of an atom are averaged over the
    rotations that leave the atom in its place. An ordinary bond has R = 1 and counts once at each end.

    No gradients flow into these arrays.

    Args:
        rotation: rotation R of the neighbor. [E, 3, 3].
        counts: number of bonds of the orbit that start at the stored center (row 0) and at the stored neighbor (row 1).
            [2, E].
    """

    rotation: Tensor
    counts: Tensor

    @classmethod
    def identity(cls, num_bonds: int, like: Tensor) -> BondTurns:
        """Make the turns of ordinary bonds, with dtype and device of a tensor."""
        rotation = torch.eye(3, dtype=like.dtype, device=like.device).repeat(num_bonds, 1, 1)
        return cls(rotation, torch.ones(2, num_bonds, dtype=like.dtype, device=like.device))


def component_rotation(rotation: Tensor) -> Tensor:
    """Compute the matrix of t -> R t R^T on the components xx yy zz yz xz xy. [..., 3, 3] -> [..., 6, 6]."""
    # Slices instead of lists of indices, which would be copied to the GPU.
    x, y, z = rotation.unbind(-2)
    rows = [(x, x), (y, y), (z, z), (y, z), (x, z), (x, y)]
    return torch.stack([_row_of_components(a, b) for a, b in rows], dim=-2)


def _row_of_components(a: Tensor, b: Tensor) -> Tensor:
    """The numbers that give a^T t b from the components of t. [..., 3] twice -> [..., 6]."""
    ax, ay, az = a.unbind(-1)
    bx, by, bz = b.unbind(-1)
    # An off-diagonal component stands for two elements of the matrix.
    return torch.stack([ax * bx, ay * by, az * bz, ay * bz + az * by, ax * bz + az * bx, ax * by + ay * bx], dim=-1)

# SPDX-License-Identifier: MIT
"""The tensor of each crystal from its atoms."""

from __future__ import annotations

from torch import Tensor

from .. import reference


def tensor_readout(atom_scalar: Tensor, atom_vector: Tensor, atom_rank2: Tensor, ptr: Tensor) -> Tensor:
    """The mean over a crystal's atoms of isotropic, dyadic and symmetric parts: Eq. 27 of arXiv 2405.09052.

    ``epsilon[b] = mean over atoms of sum_c (s_c I + v_c (x) v_c + t_c)``

    Args:
        atom_scalar: isotropic parts s. [N, C], float32 or float64.
        atom_vector: vectors v. [N, 3, C], dtype of `atom_scalar`.
        atom_rank2: symmetric tensors t, stored xx yy zz yz xz xy. [N, 6, C], dtype of `atom_scalar`.
        ptr: crystal b owns the atoms ``ptr[b]:ptr[b + 1]``, at least one. [B+1], int64.

    Returns:
        Symmetric tensors. [B, 3, 3], dtype of `atom_scalar`.

    Raises:
        RuntimeError: a shape, dtype or device does not fit, `ptr` is not increasing from 0 to N.

    Example:
        >>> s, v, t = torch.ones(1, 1), torch.tensor([[[1.0], [0.0], [2.0]]]), torch.zeros(1, 6, 1)
        >>> tensor_readout(s, v, t, torch.tensor([0, 1]))
        tensor([[[2., 0., 2.],
                 [0., 1., 0.],
                 [2., 0., 5.]]])
    """
    return reference.tensor_readout(atom_scalar, atom_vector, atom_rank2, ptr)

# SPDX-License-Identifier: MIT
"""Reference implementation of `tensor_readout`: a 3x3 matrix per atom, then a sum over atoms."""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops._batch_index import ptr_of_batch
from ..ops._bond_ends import add_rows

# The stored component (xx yy zz yz xz xy) of each element of a symmetric 3x3 matrix, row by row.
MATRIX_COMPONENTS = (0, 5, 4, 5, 1, 3, 4, 3, 2)


def tensor_readout(
    atom_scalar: Tensor,
    atom_vector: Tensor,
    atom_rank2: Tensor,
    ptr: Tensor | None = None,
    *,
    batch_idx: Tensor | None = None,
) -> Tensor:
    """Average s I + v (x) v + t over each crystal's atoms; see `dtnn_fast.ops.tensor_readout`."""
    num_atoms = atom_scalar.shape[0]
    ptr = ptr_of_batch("tensor_readout", num_atoms, ptr, batch_idx)
    if ptr is None:
        raise RuntimeError("tensor_readout: expected `ptr` to be a tensor, got None")
    identity = torch.eye(3, dtype=atom_scalar.dtype, device=atom_scalar.device)
    isotropic = atom_scalar.sum(1)[:, None, None] * identity
    dyadic = atom_vector @ atom_vector.transpose(1, 2)
    symmetric = atom_rank2.sum(2)[:, MATRIX_COMPONENTS].reshape(-1, 3, 3)

    crystal = torch.searchsorted(ptr.contiguous(), torch.arange(num_atoms, device=ptr.device), right=True) - 1
    sums = add_rows(atom_scalar.new_zeros(ptr.shape[0] - 1, 3, 3), crystal, isotropic + dyadic + symmetric)
    return sums / ptr.diff().to(atom_scalar.dtype)[:, None, None]

# SPDX-License-Identifier: MIT
"""Sums over the atoms of each crystal."""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops import bond_to_atom_sum


def crystal_of_atom(ptr: Tensor, num_atoms: int) -> Tensor:
    """Give the index of each atom's crystal, without waiting for a GPU. [B+1] -> [N], int64.

    Args:
        ptr: crystal b owns the atoms ``ptr[b]:ptr[b + 1]``. [B+1], int64.
        num_atoms: the last element of `ptr`, N.
    """
    crystals = torch.arange(ptr.shape[0] - 1, device=ptr.device)
    return torch.repeat_interleave(crystals, ptr.diff(), output_size=num_atoms)


def sum_over_atoms(values: Tensor, ptr: Tensor) -> Tensor:
    """Sum a number of each atom over the atoms of its crystal, in their order; differentiable any number of times.

    Not by `torch.segment_reduce`, whose backward torch cannot differentiate: a loss on forces needs that.

    Args:
        values: [N], float32 or float64.
        ptr: crystal b owns the atoms ``ptr[b]:ptr[b + 1]``. [B+1], int64.

    Returns:
        [B], dtype of `values`.
    """
    crystal = crystal_of_atom(ptr, values.shape[0])
    # Atoms belong to crystals as bonds to their centers.
    return bond_to_atom_sum(values.unsqueeze(1), torch.stack([crystal, crystal]), ptr, "center").squeeze(1)

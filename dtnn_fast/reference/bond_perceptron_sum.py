# SPDX-License-Identifier: MIT
"""Reference implementation of `bond_perceptron_sum`: matrix products and sums by index."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import silu

from ..ops._bond_ends import add_rows
from ..ops.neighbor_list import NeighborOrder


def bond_perceptron_sum(
    bond_scalar: Tensor,
    envelope: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    pairs: Tensor,
    row_ptr: Tensor,
    sum_scalar: Tensor | None = None,
    by_neighbor: NeighborOrder | None = None,
) -> tuple[Tensor, Tensor]:
    """Apply each perceptron to all bonds and add its values by index; see `dtnn_fast.ops.bond_perceptron_sum`."""
    num_atoms = row_ptr.shape[0] - 1

    def summed(values: Tensor) -> Tensor:
        sums = values.new_zeros((num_atoms, values.shape[1]))
        for end in range(2):
            factor = envelope if sum_scalar is None else envelope * sum_scalar[end]
            sums = add_rows(sums, pairs[end], factor.unsqueeze(1) * values)
        return sums

    sums = [
        summed(silu(silu(bond_scalar @ w1 + b1) @ w2 + b2))
        for w1, b1, w2, b2 in zip(weight1, bias1, weight2, bias2, strict=True)
    ]
    no_sums = bond_scalar.new_zeros((0, num_atoms, weight2.shape[2]))
    return torch.stack(sums) if sums else no_sums, summed(torch.ones_like(envelope).unsqueeze(1)).squeeze(1)

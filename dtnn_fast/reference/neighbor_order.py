# SPDX-License-Identifier: MIT
"""The bonds sorted by neighbor, for sums over the neighbors' ends."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class NeighborOrder(NamedTuple):
    """The bonds whose neighbor is atom n are ``order[row_ptr[n]:row_ptr[n + 1]]``.

    Args:
        order: bonds, sorted by neighbor and then as stored. [E], int64.
        row_ptr: the segments. [N+1], int64.
    """

    order: Tensor
    row_ptr: Tensor


def neighbor_order(pairs: Tensor, num_atoms: int) -> NeighborOrder:
    """Sort the bonds by neighbor, keeping the stored order among equals.

    Args:
        pairs: centers and neighbors. [2, E], int64.
        num_atoms: the number of atoms N.

    Returns:
        The order and its segments.

    Raises:
        ValueError: `pairs` is not of shape [2, E] and dtype int64.

    Example:
        >>> neighbor_order(torch.tensor([[0, 0, 1], [1, 0, 0]]), 2).order
        tensor([1, 2, 0])
    """
    if pairs.dim() != 2 or pairs.shape[0] != 2 or pairs.dtype != torch.int64:
        raise ValueError(
            f"neighbor_order: expected `pairs` of shape [2, E] and dtype int64, got {list(pairs.shape)} {pairs.dtype}"
        )
    neighbors, order = torch.sort(pairs[1], stable=True)
    atoms = torch.arange(num_atoms + 1, device=pairs.device)
    return NeighborOrder(order, torch.searchsorted(neighbors, atoms))

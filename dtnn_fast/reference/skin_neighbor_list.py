# SPDX-License-Identifier: MIT
"""Reference implementation of `SkinNeighborList`: a search at every update."""

from __future__ import annotations

from torch import Tensor

from ..ops.neighbor_list import NeighborList
from .neighbor_list import neighbor_list


class SkinNeighborList:
    """Neighbor lists from a search at every update; see `dtnn_fast.ops.SkinNeighborList`."""

    def __init__(self, cutoff: float | Tensor, skin: float, half: bool = False, self_pairs: bool = False) -> None:
        self.cutoff = cutoff
        self.skin = skin
        self.half = half
        self.self_pairs = self_pairs
        self._num_searches = 0

    @property
    def num_rebuilds(self) -> int:
        """Number of searches after the first one."""
        return max(self._num_searches - 1, 0)

    def update(
        self,
        positions: Tensor,
        cell: Tensor,
        pbc: Tensor,
        ptr: Tensor | None = None,
        *,
        batch_idx: Tensor | None = None,
    ) -> NeighborList:
        """Return the neighbor list at these positions."""
        self._num_searches += 1
        return neighbor_list(positions, cell, pbc, self.cutoff, ptr, self.half, self.self_pairs, batch_idx=batch_idx)

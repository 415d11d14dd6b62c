# SPDX-License-Identifier: MIT
"""Reference implementation of `bond_reverses` and `full_to_half`: a dictionary of bonds."""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops.bond_reverses import FullToHalf
from ..ops.neighbor_list import NeighborList


def bond_reverses(pairs: Tensor, shifts: Tensor, row_ptr: Tensor) -> Tensor:
    """Look up each bond's reverse in a dictionary; see `dtnn_fast.ops.bond_reverses`."""
    number = {bond: e for e, bond in enumerate(_bonds(pairs, shifts))}
    reverses = []
    for e, (i, j, *s) in enumerate(number):
        reverse = (j, i, *(-x for x in s))
        if reverse not in number:
            raise RuntimeError(
                f"bond_reverses: expected a full list, with every bond from both ends, got one without a reverse: "
                f"bond {e} from atom {i} to {j} with shift {s}"
            )
        reverses.append(number[reverse])
    return pairs.new_tensor(reverses)


def full_to_half(pairs: Tensor, shifts: Tensor, row_ptr: Tensor) -> FullToHalf:
    """Keep one direction of each bond and map the other to it; see `dtnn_fast.ops.full_to_half`."""
    reverses = bond_reverses(pairs, shifts, row_ptr).tolist()
    # Of (i, j, S) and (j, i, -S): the smaller center first, then the larger shift.
    kept = [e for e, (i, j, *s) in enumerate(_bonds(pairs, shifts)) if i < j or (i == j and s >= [-x for x in s])]
    number = {e: n for n, e in enumerate(kept)}
    index = [number[e] if e in number else number[reverses[e]] for e in range(len(reverses))]
    direction = [1 if e in number else -1 for e in range(len(reverses))]
    chosen = pairs.new_tensor(kept)
    half_row_ptr = torch.searchsorted(chosen, row_ptr.contiguous())
    return FullToHalf(
        NeighborList(pairs[:, chosen], shifts[chosen], half_row_ptr),
        chosen,
        pairs.new_tensor(index),
        pairs.new_tensor(direction, dtype=torch.int8),
    )


def _bonds(pairs: Tensor, shifts: Tensor) -> list[tuple[int, ...]]:
    return [tuple(row) for row in torch.cat([pairs.T, shifts], dim=1).tolist()]

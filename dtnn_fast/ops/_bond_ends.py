# SPDX-License-Identifier: MIT
"""The ends of a bond by name, as coefficients of center and neighbor."""

from __future__ import annotations

from torch import Tensor

from .neighbor_list import NeighborOrder, neighbor_order

COEFFICIENTS = {"center": (1, 0), "neighbor": (0, 1), "sum": (1, 1), "difference": (-1, 1)}


def end_coefficients(op: str, ends: str) -> tuple[int, int]:
    """The coefficients of the center's and the neighbor's end.

    Raises:
        ValueError: `ends` is not a name of `COEFFICIENTS`.
    """
    if ends not in COEFFICIENTS:
        raise ValueError(f"{op}: expected `ends` to be one of {', '.join(COEFFICIENTS)}, got {ends!r}")
    return COEFFICIENTS[ends]


def end_name(center: int, neighbor: int) -> str:
    """The name of a pair of coefficients."""
    return next(name for name, pair in COEFFICIENTS.items() if pair == (center, neighbor))


def order_for(
    neighbor: int, by_neighbor: NeighborOrder | None, pairs: Tensor, row_ptr: Tensor
) -> NeighborOrder | tuple[None, None]:
    """The order that the neighbors' ends need: the one given, or a new one; none where they take no part."""
    if neighbor == 0:
        return None, None
    # A `row_ptr` of a wrong shape goes on to the kernel's check.
    return neighbor_order(pairs, row_ptr.numel() - 1) if by_neighbor is None else by_neighbor

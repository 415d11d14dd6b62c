# SPDX-License-Identifier: MIT
"""Graphs with dummy crystals, so that batches of similar size get exactly the same size, as a CUDA graph needs."""

from __future__ import annotations

from typing import NamedTuple

import torch

from ..ops import NeighborOrder
from .graph import BondTier, CrystalGraph, collate

_SMALLEST = 16
# Bonds of a dummy atom: one thread sums the bonds of an atom, and must not wait for a much longer row.
_MOST_DUMMY_BONDS = 32
# Edge of the cubic cell of a dummy crystal, and length of its bonds, as a share of the shortest cutoff.
_DUMMY_LENGTH = 0.5


class GraphSize(NamedTuple):
    """Size of a graph.

    Args:
        crystals: number of crystals.
        atoms: number of atoms.
        bonds: number of bonds of each tier, from the shortest cutoff to the longest.
    """

    crystals: int
    atoms: int
    bonds: tuple[int, ...]

    @classmethod
    def of(cls, graph: CrystalGraph) -> GraphSize:
        """Return the size of a graph."""
        return cls(graph.num_crystals, graph.num_atoms, tuple(tier.num_bonds for tier in graph.tiers))

    def rounded_up(self) -> GraphSize:
        """Choose a size to pad to: each number has four steps from a power of two to the next, at least 16."""
        bonds: list[int] = []
        dummies = 0
        for number in self.bonds:
            # The dummy bonds of a tier are among those of the next.
            bonds.append(_round_up(number + dummies))
            dummies = bonds[-1] - number
        crystals = _round_up(self.crystals + 1)
        atoms = max(crystals - self.crystals, -(-dummies // _MOST_DUMMY_BONDS))
        return GraphSize(crystals, _round_up(self.atoms + atoms), tuple(bonds))

    def fits_into(self, size: GraphSize) -> bool:
        """Tell whether `pad_graph` can pad a graph of this size to another size."""
        if len(size.bonds) != len(self.bonds):
            return False
        crystals, atoms = size.crystals - self.crystals, size.atoms - self.atoms
        bonds = [larger - own for larger, own in zip(size.bonds, self.bonds, strict=True)]
        return (
            1 <= crystals <= atoms
            and min(bonds, default=0) >= 0
            and bonds == sorted(bonds)
            and max(bonds, default=0) <= _MOST_DUMMY_BONDS * atoms
        )


def _round_up(number: int) -> int:
    if number <= _SMALLEST:
        return _SMALLEST
    step = 1 << ((number - 1).bit_length() - 3)
    return -(-number // step) * step


def pad_graph(graph: CrystalGraph, size: GraphSize) -> CrystalGraph:
    """Add dummy crystals behind the crystals of a graph, without waiting for a GPU.

    No bond joins two crystals, so the results of the graph's own crystals, atoms and bonds, which come first, stay the
    same. Dummy crystals are made of hydrogen atoms at one place with bonds to their own images; their results are
    finite numbers without meaning.

    Args:
        graph: a plain or a reduced graph.
        size: the wanted size.

    Returns:
        A graph of this size, on the device and in the dtype of the graph; none of its tensors is one of the graph's.

    Raises:
        ValueError: the graph does not fit into the size: it needs at least one crystal more, an atom for each dummy
            crystal and each 32 dummy bonds, and as many dummy bonds in each tier as in the shorter ones.
    """
    own = GraphSize.of(graph)
    if not own.fits_into(size):
        raise ValueError(f"pad_graph: expected a `size` into which the graph's {own} fits, got {size}")
    dummy = _dummy_graph(
        graph,
        GraphSize(
            size.crystals - own.crystals,
            size.atoms - own.atoms,
            tuple(larger - number for larger, number in zip(size.bonds, own.bonds, strict=True)),
        ),
    )
    return collate([graph, dummy])


def _dummy_graph(like: CrystalGraph, size: GraphSize) -> CrystalGraph:
    """Make a plain graph with the cutoffs, dtype and device of another; all crystals but the last have one atom."""
    device, dtype = like.positions.device, like.positions.dtype
    crystals, atoms, _ = size
    length = _DUMMY_LENGTH * min((tier.cutoff for tier in like.tiers), default=1.0)
    rows = torch.arange(atoms + 1, device=device)
    tiers = []
    shorter = 0
    for tier, bonds in zip(like.tiers, size.bonds, strict=True):
        numbers = torch.arange(bonds, device=device)
        # Evenly over the atoms: bond j belongs to atom j atoms // bonds.
        center = numbers * atoms // max(bonds, 1)
        row_ptr = (rows * bonds + (atoms - 1)) // atoms
        shifts = torch.zeros(bonds, 3, dtype=torch.int32, device=device)
        shifts[:, 0] = 1
        pairs = torch.stack([center, center])
        order = NeighborOrder(numbers, row_ptr)
        tiers.append(BondTier(tier.cutoff, pairs, shifts, row_ptr, order, numbers[:shorter]))
        shorter = bonds
    ptr = torch.arange(crystals + 1, device=device)
    ptr[-1:] += atoms - crystals
    cell = (length * torch.eye(3, dtype=dtype, device=device)).expand(crystals, 3, 3)
    numbers = torch.ones(atoms, dtype=like.atomic_numbers.dtype, device=device)
    return CrystalGraph(numbers, torch.zeros(atoms, 3, dtype=dtype, device=device), cell, ptr, tuple(tiers))

# SPDX-License-Identifier: MIT
"""A batch of crystals as a graph: atoms, and half lists of bonds for each cutoff, each list inside the next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..crystals.crystal import Crystal
from ..crystals.lattice import reduce_cell
from ..errors import BadCrystalError
from ..ops import NeighborOrder, bond_vectors, neighbor_order, nested_neighbor_lists

# Product of the lengths of the lattice vectors over the volume: 1 for right angles, and below this in common cells.
_SKEWED = 8.0


@dataclass(frozen=True)
class BondTier:
    """The bonds shorter than one cutoff, each stored once.

    Args:
        cutoff: Angstrom.
        pairs: centers and neighbors. [2, E], int64.
        shifts: lattice translations of the neighbors. [E, 3], int32.
        row_ptr: segments of the centers. [N+1], int64.
        by_neighbor: the bonds sorted by neighbor.
        inner: where the bonds of the next shorter tier are in this one. [E of that tier], int64.
    """

    cutoff: float
    pairs: Tensor
    shifts: Tensor
    row_ptr: Tensor
    by_neighbor: NeighborOrder
    inner: Tensor

    @property
    def num_bonds(self) -> int:
        """Number of bonds, each counted once."""
        return self.pairs.shape[1]


@dataclass(frozen=True)
class CrystalGraph:
    """Crystals one after the other in common arrays.

    Args:
        atomic_numbers: [N], int64.
        positions: [N, 3], Angstrom.
        cell: rows are lattice vectors. [B, 3, 3], Angstrom.
        ptr: crystal b owns the atoms ``ptr[b]:ptr[b + 1]``. [B+1], int64.
        tiers: one list of bonds per cutoff, from short to long.
    """

    atomic_numbers: Tensor
    positions: Tensor
    cell: Tensor
    ptr: Tensor
    tiers: tuple[BondTier, ...]

    @property
    def num_atoms(self) -> int:
        """Number of atoms of all crystals."""
        return self.positions.shape[0]

    @property
    def num_crystals(self) -> int:
        """Number of crystals."""
        return self.ptr.shape[0] - 1

    def tier(self, cutoff: float) -> BondTier:
        """The bonds shorter than `cutoff`.

        Raises:
            KeyError: the graph was built with other cutoffs.
        """
        for tier in self.tiers:
            if tier.cutoff == cutoff:
                return tier
        raise KeyError(cutoff)

    def vectors(self, tier: BondTier) -> Tensor:
        """Bond vectors from center to neighbor, differentiable in positions and cell. [E, 3], Angstrom."""
        orders = tier.row_ptr, tier.by_neighbor
        return bond_vectors(self.positions, self.cell, tier.pairs, tier.shifts, self.ptr, *orders)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> CrystalGraph:
        """The same graph on another device, and with positions and cell in another dtype."""
        tiers = tuple(
            replace(
                tier,
                pairs=tier.pairs.to(device),
                shifts=tier.shifts.to(device),
                row_ptr=tier.row_ptr.to(device),
                by_neighbor=NeighborOrder(*(x.to(device) for x in tier.by_neighbor)),
                inner=tier.inner.to(device),
            )
            for tier in self.tiers
        )
        return CrystalGraph(
            self.atomic_numbers.to(device),
            self.positions.to(device, dtype),
            self.cell.to(device, dtype),
            self.ptr.to(device),
            tiers,
        )


def _nested_tiers(
    positions: Tensor, cell: Tensor, pbc: Tensor, ptr: Tensor, cutoffs: Sequence[float]
) -> tuple[BondTier, ...]:
    """One pass at the longest cutoff; the shorter lists are parts of it in the same order."""
    ordered = sorted(set(cutoffs))
    nested = nested_neighbor_lists(positions, cell, pbc, ordered, ptr, half=True)
    nothing = torch.empty(0, dtype=torch.int64, device=positions.device)
    return tuple(
        BondTier(cutoff, *bonds, neighbor_order(bonds.pairs, positions.shape[0]), inner)
        for cutoff, bonds, inner in zip(ordered, nested.lists, (nothing, *nested.inner), strict=True)
    )


def _with_small_numbers(crystal: Crystal) -> tuple[np.ndarray, np.ndarray]:
    """Positions inside the cell, and a compact cell of the same lattice, if the crystal is periodic all around.

    In a very skewed cell ``shifts @ cell`` is a small difference of large numbers.
    """
    positions, cell = crystal.positions, crystal.cell
    if not crystal.pbc.all():
        return positions, cell
    if np.prod(np.linalg.norm(cell, axis=1)) > _SKEWED * abs(np.linalg.det(cell)):
        cell = reduce_cell(cell)
    fractional = np.linalg.solve(cell.T, positions.T).T
    return positions - np.floor(fractional) @ cell, cell


def build_graph(
    crystals: Sequence[Crystal], cutoffs: Sequence[float], dtype: torch.dtype = torch.float32
) -> CrystalGraph:
    """Put crystals into one graph on the CPU; neighbor lists are made in float64 whatever `dtype` is.

    Args:
        crystals: what to put together, at least one.
        cutoffs: Angstrom; equal ones share a tier.
        dtype: of positions and cell in the result. Below float64 a very skewed cell is replaced by a compact one of
            the same lattice, and the atoms are moved into it: otherwise there would be no digits left for distances.

    Returns:
        The graph; use `CrystalGraph.to` for another device.

    Raises:
        BadCrystalError: no crystals were given.
    """
    if not crystals:
        raise BadCrystalError("expected at least one crystal, got none")
    sizes = torch.tensor([0, *(crystal.num_atoms for crystal in crystals)])
    ptr = sizes.cumsum(0)
    is_exact = dtype == torch.float64
    placed = [(c.positions, c.cell) if is_exact else _with_small_numbers(c) for c in crystals]
    positions = torch.cat([torch.from_numpy(part) for part, _ in placed])
    cell = torch.stack([torch.from_numpy(part) for _, part in placed])
    pbc = torch.stack([torch.from_numpy(crystal.pbc) for crystal in crystals])
    numbers = torch.cat([torch.from_numpy(crystal.atomic_numbers) for crystal in crystals])
    tiers = _nested_tiers(positions, cell, pbc, ptr, cutoffs)
    return CrystalGraph(numbers, positions.to(dtype), cell.to(dtype), ptr, tiers)


def _join_segments(parts: Sequence[Tensor]) -> Tensor:
    """Row pointers of graphs put one after the other."""
    counts = torch.cat([parts[0][:1], *(part.diff() for part in parts)])
    return counts.cumsum(0)


def _join_indices(parts: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """Indices along the last dimension of each part, moved behind the `sizes` things of the parts before it."""
    offset, moved = 0, []
    for part, size in zip(parts, sizes, strict=True):
        moved.append(part + offset)
        offset += size
    return torch.cat(moved, dim=-1)


def collate(graphs: Sequence[CrystalGraph]) -> CrystalGraph:
    """Put graphs one after the other without building any neighbor list again.

    Args:
        graphs: graphs with the same cutoffs, dtype and device, at least one.

    Returns:
        The joined graph.
    """
    atoms = [graph.num_atoms for graph in graphs]
    tiers = []
    for level in range(len(graphs[0].tiers)):
        parts = [graph.tiers[level] for graph in graphs]
        bonds = [part.num_bonds for part in parts]
        tiers.append(
            BondTier(
                parts[0].cutoff,
                _join_indices([part.pairs for part in parts], atoms),
                torch.cat([part.shifts for part in parts]),
                _join_segments([part.row_ptr for part in parts]),
                NeighborOrder(
                    _join_indices([part.by_neighbor.order for part in parts], bonds),
                    _join_segments([part.by_neighbor.row_ptr for part in parts]),
                ),
                _join_indices([part.inner for part in parts], bonds),
            )
        )
    return CrystalGraph(
        torch.cat([graph.atomic_numbers for graph in graphs]),
        torch.cat([graph.positions for graph in graphs]),
        torch.cat([graph.cell for graph in graphs]),
        _join_segments([graph.ptr for graph in graphs]),
        tuple(tiers),
    )


def batches_of_atoms(crystals: Sequence[Crystal], batch_atoms: int) -> Iterable[list[int]]:
    """Groups of about `batch_atoms` atoms, in the order of size so that batches are even."""
    batch: list[int] = []
    atoms = 0
    for index in sorted(range(len(crystals)), key=lambda k: crystals[k].num_atoms):
        if batch and atoms + crystals[index].num_atoms > batch_atoms:
            yield batch
            batch, atoms = [], 0
        batch.append(index)
        atoms += crystals[index].num_atoms
    if batch:
        yield batch

# SPDX-License-Identifier: MIT
"""A batch of crystals as a graph: atoms, and a half list of bonds for each cutoff, nested from short to long.

`build_graph` makes a graph of crystals, `collate` joins graphs, `crystal_batches` says which crystals go together.
"""

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

# Product of the lengths of the lattice vectors over the volume: 1 for right angles, below this in common cells.
_SKEWED = 8.0


@dataclass(frozen=True)
class BondTier:
    """The bonds shorter than a given cutoff. Each bond is stored once.

    Args:
        cutoff: Angstrom.
        pairs: centers and neighbors. [2, E], int64.
        shifts: lattice translations of the neighbors. [E, 3], int32.
        row_ptr: segments of the centers. [N+1], int64.
        by_neighbor: the bonds sorted by neighbor.
        inner: indices of the next shorter tier's bonds in this tier. [E of the shorter tier], int64.
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
    """Crystals in common arrays, one after the other.

    Args:
        atomic_numbers: [N], int64.
        positions: [N, 3], Angstrom.
        cell: rows are lattice vectors. [B, 3, 3], Angstrom.
        ptr: crystal b owns the atoms ``ptr[b]:ptr[b + 1]``. [B+1], int64.
        tiers: the bonds of each cutoff, from short to long.
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
        """Return the bonds shorter than `cutoff`.

        Raises:
            KeyError: the graph was built with other cutoffs.
        """
        for tier in self.tiers:
            if tier.cutoff == cutoff:
                return tier
        raise KeyError(cutoff)

    def vectors(self, tier: BondTier) -> Tensor:
        """Compute bond vectors from center to neighbor, differentiable in positions and cell. [E, 3], Angstrom."""
        orders = tier.row_ptr, tier.by_neighbor
        return bond_vectors(self.positions, self.cell, tier.pairs, tier.shifts, self.ptr, *orders)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> CrystalGraph:
        """Copy the graph to another device, with positions and cell in another dtype."""
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


def build_graph(
    crystals: Sequence[Crystal], cutoffs: Sequence[float], dtype: torch.dtype = torch.float32
) -> CrystalGraph:
    """Put crystals into one graph on the CPU. Neighbor lists are made in float64 for every `dtype`.

    Args:
        crystals: at least one.
        cutoffs: Angstrom; equal cutoffs share a tier.
        dtype: dtype of positions and cell in the result. Below float64 a very skewed cell is replaced by a compact cell
            of the same lattice, and the atoms are moved into it: otherwise distances would lose their digits.

    Returns:
        The graph; use `CrystalGraph.to` for another device.

    Raises:
        BadCrystalError: no crystals were given.
    """
    if not crystals:
        raise BadCrystalError("expected at least one crystal, got none")
    sizes = torch.tensor([0, *(crystal.num_atoms for crystal in crystals)], device="cpu")
    ptr = sizes.cumsum(0)
    is_float64 = dtype == torch.float64
    placed = [(c.positions, c.cell) if is_float64 else _wrap_into_compact_cell(c) for c in crystals]
    positions = torch.cat([torch.from_numpy(positions) for positions, _ in placed])
    cell = torch.stack([torch.from_numpy(cell) for _, cell in placed])
    pbc = torch.stack([torch.from_numpy(crystal.pbc) for crystal in crystals])
    numbers = torch.cat([torch.from_numpy(crystal.atomic_numbers) for crystal in crystals])
    tiers = _nested_tiers(positions, cell, pbc, ptr, cutoffs)
    return CrystalGraph(numbers, positions.to(dtype), cell.to(dtype), ptr, tiers)


def _wrap_into_compact_cell(crystal: Crystal) -> tuple[np.ndarray, np.ndarray]:
    """Move the atoms of a fully periodic crystal into its cell, and make a very skewed cell compact.

    In a very skewed cell ``shifts @ cell`` is a small difference of large numbers.

    Returns:
        Positions [N, 3] and a cell of the same lattice [3, 3]; unchanged where a direction is not periodic.
    """
    positions, cell = crystal.positions, crystal.cell
    if not crystal.pbc.all():
        return positions, cell
    if np.prod(np.linalg.norm(cell, axis=1)) > _SKEWED * abs(np.linalg.det(cell)):
        cell = reduce_cell(cell)
    fractional = np.linalg.solve(cell.T, positions.T).T
    return positions - np.floor(fractional) @ cell, cell


def _nested_tiers(
    positions: Tensor, cell: Tensor, pbc: Tensor, ptr: Tensor, cutoffs: Sequence[float]
) -> tuple[BondTier, ...]:
    """Search once at the longest cutoff; the shorter lists are taken from it in the same order."""
    ordered = sorted(set(cutoffs))
    nested = nested_neighbor_lists(positions, cell, pbc, ordered, ptr, half=True)
    nothing = torch.empty(0, dtype=torch.int64, device=positions.device)
    return tuple(
        BondTier(cutoff, *bonds, neighbor_order(bonds.pairs, positions.shape[0]), inner)
        for cutoff, bonds, inner in zip(ordered, nested.lists, (nothing, *nested.inner), strict=True)
    )


def collate(graphs: Sequence[CrystalGraph]) -> CrystalGraph:
    """Join graphs into one, one after the other, without a new neighbor search.

    Args:
        graphs: at least one, with the same cutoffs, dtype and device.

    Returns:
        The joined graph.
    """
    num_atoms = [graph.num_atoms for graph in graphs]
    tiers = []
    for same_cutoff in zip(*(graph.tiers for graph in graphs), strict=True):
        num_bonds = [tier.num_bonds for tier in same_cutoff]
        tiers.append(
            BondTier(
                same_cutoff[0].cutoff,
                _join_indices([tier.pairs for tier in same_cutoff], num_atoms),
                torch.cat([tier.shifts for tier in same_cutoff]),
                _join_segments([tier.row_ptr for tier in same_cutoff]),
                NeighborOrder(
                    _join_indices([tier.by_neighbor.order for tier in same_cutoff], num_bonds),
                    _join_segments([tier.by_neighbor.row_ptr for tier in same_cutoff]),
                ),
                _join_indices([tier.inner for tier in same_cutoff], num_bonds),
            )
        )
    return CrystalGraph(
        torch.cat([graph.atomic_numbers for graph in graphs]),
        torch.cat([graph.positions for graph in graphs]),
        torch.cat([graph.cell for graph in graphs]),
        _join_segments([graph.ptr for graph in graphs]),
        tuple(tiers),
    )


def _join_segments(row_pointers: Sequence[Tensor]) -> Tensor:
    """Row pointers of graphs put one after the other."""
    counts = torch.cat([row_pointers[0][:1], *(row_ptr.diff() for row_ptr in row_pointers)])
    return counts.cumsum(0)


def _join_indices(indices: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """Join indices along the last dimension; those of graph k are shifted by the sizes of the graphs before it."""
    offset, shifted = 0, []
    for values, size in zip(indices, sizes, strict=True):
        shifted.append(values + offset)
        offset += size
    return torch.cat(shifted, dim=-1)


def crystal_batches(crystals: Sequence[Crystal], batch_atoms: int) -> Iterable[list[int]]:
    """Yield the indices of crystals in batches of at most `batch_atoms` atoms, or of one larger crystal.

    Crystals are taken in the order of their size, so that the crystals of a batch are of similar size.
    """
    batch: list[int] = []
    num_atoms = 0
    for index in sorted(range(len(crystals)), key=lambda k: crystals[k].num_atoms):
        if batch and num_atoms + crystals[index].num_atoms > batch_atoms:
            yield batch
            batch, num_atoms = [], 0
        batch.append(index)
        num_atoms += crystals[index].num_atoms
    if batch:
        yield batch

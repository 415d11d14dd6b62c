# SPDX-License-Identifier: MIT
"""A batch of crystals as a graph: atoms, and a half list of bonds for each cutoff, nested from short to long.

`build_graph` makes a graph of crystals, `collate` joins graphs, `crystal_batches` says which crystals go together. A
*plain* graph holds all atoms and bonds of its crystals. A *reduced* graph (`reduced_graph.build_reduced_graph`) holds
one atom and one bond of each symmetry orbit, with `BondTurns` that say how the others follow.
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
class BondTurns:
    """Rotations that carry values along the bonds of a reduced graph, and sums of rotations over orbits of bonds.

    A stored bond stands for all bonds of its orbit. Row 0 of the sums holds the directed bonds that start at the
    stored center, row 1 those that start at the atom that stands for the neighbor; each directed bond counts once.
    Signs are +1 for images of the stored direction and -1 for images of its reverse. A bond without symmetry has
    `neighbor` = 1, `sum_scalar` = (1, 1), `sum_vector` = (1, -1) and `sum_rank2` = (1, 1). The sums are constants.

    Args:
        neighbor: rotation R that makes the neighbor of its stored atom ``pairs[1]``: the neighbor's vector is R q, its
            tensor R tau R^T. [E, 3, 3], dtype of the positions.
        sum_scalar: number of directed bonds of the orbit at each end. [2, E].
        sum_vector: signed sum of the directed bonds' rotations, for vectors. [2, E, 3, 3].
        sum_rank2: sum of the directed bonds' rotations, for the six components of tensors. [2, E, 6, 6].
    """

    neighbor: Tensor
    sum_scalar: Tensor
    sum_vector: Tensor
    sum_rank2: Tensor

    @classmethod
    def identity(cls, num_bonds: int, like: Tensor) -> BondTurns:
        """Make the turns of bonds without symmetry.

        Args:
            num_bonds: number of bonds.
            like: gives dtype and device.
        """

        def identities(size: int) -> Tensor:
            return torch.eye(size, dtype=like.dtype, device=like.device).expand(num_bonds, size, size)

        one, six = identities(3), identities(6)
        ones = torch.ones(2, num_bonds, dtype=like.dtype, device=like.device)
        return cls(one.contiguous(), ones, torch.stack([one, -one]), torch.stack([six, six]))

    def select(self, bonds: Tensor) -> BondTurns:
        """Take the turns of some bonds. [E'], int64."""
        return BondTurns(
            self.neighbor[bonds], self.sum_scalar[:, bonds], self.sum_vector[:, bonds], self.sum_rank2[:, bonds]
        )

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> BondTurns:
        """Copy the turns to another device, in another dtype."""
        return BondTurns(*(values.to(device, dtype) for values in self._tensors()))

    def _tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.neighbor, self.sum_scalar, self.sum_vector, self.sum_rank2


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
        turns: how the bonds of an orbit follow from the stored one; None in a plain graph.
        vectors: bond vectors of a reduced graph, where neighbors are images of stored atoms; None in a plain graph,
            whose vectors follow from the positions. [E, 3], Angstrom.
    """

    cutoff: float
    pairs: Tensor
    shifts: Tensor
    row_ptr: Tensor
    by_neighbor: NeighborOrder
    inner: Tensor
    turns: BondTurns | None = None
    vectors: Tensor | None = None

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
        atom_weight: number of atoms that each stored atom stands for; None in a plain graph. [N], dtype of the
            positions.
        projector: average of the 6x6 rotations over the crystal's point group, which makes of a mean over the stored
            atoms the mean over all atoms; None in a plain graph. [B, 6, 6], dtype of the positions.
    """

    atomic_numbers: Tensor
    positions: Tensor
    cell: Tensor
    ptr: Tensor
    tiers: tuple[BondTier, ...]
    atom_weight: Tensor | None = None
    projector: Tensor | None = None

    @property
    def is_reduced(self) -> bool:
        """Whether the graph holds one atom and one bond of each orbit, so that positions carry no gradients."""
        return self.atom_weight is not None

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
        """Compute bond vectors from center to neighbor, differentiable in positions and cell. [E, 3], Angstrom.

        Those of a reduced graph are constants.
        """
        if tier.vectors is not None:
            return tier.vectors
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
                turns=None if tier.turns is None else tier.turns.to(device, dtype),
                vectors=None if tier.vectors is None else tier.vectors.to(device, dtype),
            )
            for tier in self.tiers
        )
        return CrystalGraph(
            self.atomic_numbers.to(device),
            self.positions.to(device, dtype),
            self.cell.to(device, dtype),
            self.ptr.to(device),
            tiers,
            None if self.atom_weight is None else self.atom_weight.to(device, dtype),
            None if self.projector is None else self.projector.to(device, dtype),
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
    sizes = torch.tensor([0, *(crystal.num_atoms for crystal in crystals)])
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
        graphs: at least one, with the same cutoffs, dtype and device. Where some are reduced and others plain, the
            plain ones get turns that change nothing, and their bond vectors become constants.

    Returns:
        The joined graph.

    Raises:
        ValueError: cutoffs, dtypes or devices differ.
    """
    _check_alike(graphs)
    if any(graph.is_reduced for graph in graphs):
        graphs = [graph if graph.is_reduced else with_identity_turns(graph) for graph in graphs]
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
                _join_turns([tier.turns for tier in same_cutoff if tier.turns is not None]),
                _join_rows([tier.vectors for tier in same_cutoff if tier.vectors is not None]),
            )
        )
    return CrystalGraph(
        torch.cat([graph.atomic_numbers for graph in graphs]),
        torch.cat([graph.positions for graph in graphs]),
        torch.cat([graph.cell for graph in graphs]),
        _join_segments([graph.ptr for graph in graphs]),
        tuple(tiers),
        _join_rows([graph.atom_weight for graph in graphs if graph.atom_weight is not None]),
        _join_rows([graph.projector for graph in graphs if graph.projector is not None]),
    )


def with_identity_turns(graph: CrystalGraph) -> CrystalGraph:
    """Write a plain graph as a reduced one in which every atom and bond stands for itself.

    Args:
        graph: a plain graph. Gradients do not flow into positions and cell of the result.
    """
    with torch.no_grad():
        tiers = tuple(
            replace(tier, turns=BondTurns.identity(tier.num_bonds, graph.positions), vectors=graph.vectors(tier))
            for tier in graph.tiers
        )
    identity = torch.eye(6, dtype=graph.positions.dtype, device=graph.positions.device)
    weight = graph.positions.new_ones(graph.num_atoms)
    return replace(
        graph, tiers=tiers, atom_weight=weight, projector=identity.expand(graph.num_crystals, 6, 6).contiguous()
    )


def _check_alike(graphs: Sequence[CrystalGraph]) -> None:
    """Check that graphs can be joined."""
    first = graphs[0]
    cutoffs = [tier.cutoff for tier in first.tiers]
    for index, graph in enumerate(graphs):
        others = [tier.cutoff for tier in graph.tiers]
        for name, actual, expected in (
            ("cutoffs", others, cutoffs),
            ("dtype", graph.positions.dtype, first.positions.dtype),
            ("device", graph.positions.device, first.positions.device),
        ):
            if actual != expected:
                raise ValueError(
                    f"collate: expected `graphs` with the same {name}, got {expected} in graph 0 and {actual} in "
                    f"graph {index}"
                )


def _join_rows(parts: Sequence[Tensor]) -> Tensor | None:
    return torch.cat(list(parts)) if parts else None


def _join_turns(parts: Sequence[BondTurns]) -> BondTurns | None:
    if not parts:
        return None
    return BondTurns(
        torch.cat([turns.neighbor for turns in parts]),
        torch.cat([turns.sum_scalar for turns in parts], dim=1),
        torch.cat([turns.sum_vector for turns in parts], dim=1),
        torch.cat([turns.sum_rank2 for turns in parts], dim=1),
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

# SPDX-License-Identifier: MIT
"""A batch of crystals as a graph: atoms, and a half list of bonds for each cutoff, nested from short to long.

`build_graph` makes a graph from crystals, `collate` joins graphs, and `crystal_batches` chooses which crystals go into
a batch. A *plain* graph holds all atoms and bonds of its crystals. A *reduced* graph
(`reduced_graph.build_reduced_graph`) holds one atom and one bond of each symmetry orbit, with `BondTurns` that say how
the others follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..crystals.crystal import Crystal
from ..crystals.lattice import wrap_into_compact_cells
from ..crystals.packed import PackedCrystals
from ..errors import BadCrystalError
from ..ops import BondTurns, NeighborOrder, bond_vectors, neighbor_order, nested_neighbor_lists


class SiteProjectors(NamedTuple):
    """Means of the rotations that leave each stored atom of a reduced graph in its place.

    A sum over the bonds of an atom counts each stored bond several times, always in the same direction. The projector
    turns this into the sum over all directions.

    Args:
        vector: for vectors. [N, 3, 3], dtype of the positions.
        rank2: for the components xx yy zz yz xz xy of tensors. [N, 6, 6], dtype of the positions.
    """

    vector: Tensor
    rank2: Tensor

    @classmethod
    def identity(cls, num_atoms: int, like: Tensor) -> SiteProjectors:
        """Make the projectors of atoms that only the identity leaves in place, with dtype and device of a tensor."""
        vector, rank2 = (
            torch.eye(size, dtype=like.dtype, device=like.device).repeat(num_atoms, 1, 1) for size in (3, 6)
        )
        return cls(vector, rank2)


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
        sites: projectors of the stored atoms, the same for all tiers; None in a plain graph.
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
    sites: SiteProjectors | None = None
    vectors: Tensor | None = None

    @property
    def num_bonds(self) -> int:
        """Number of bonds, each counted once."""
        return self.pairs.shape[1]


@dataclass(frozen=True)
class CrystalGraph:
    """Batch of crystals in common arrays, one after the other.

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
                turns=None if tier.turns is None else BondTurns(*(x.to(device, dtype) for x in tier.turns)),
                sites=None if tier.sites is None else SiteProjectors(*(x.to(device, dtype) for x in tier.sites)),
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
    crystals: Sequence[Crystal],
    cutoffs: Sequence[float],
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> CrystalGraph:
    """Put crystals into one graph. Neighbor lists are made in float64 for every `dtype`.

    Args:
        crystals: at least one.
        cutoffs: Angstrom; equal cutoffs share a tier.
        dtype: dtype of positions and cell in the result. Below float64 a very skewed cell is replaced by a compact cell
            of the same lattice, and the atoms are moved into it: otherwise distances would lose their digits.
        device: device of the graph. On CUDA the neighbor lists are made there; for other devices on the CPU.

    Returns:
        The graph.

    Raises:
        BadCrystalError: no crystals were given.
    """
    if not crystals:
        raise BadCrystalError("expected at least one crystal, got none")
    packed = PackedCrystals.of(crystals)
    placed = packed.positions, packed.cells
    if dtype != torch.float64:
        placed = wrap_into_compact_cells(packed.positions, packed.cells, packed.pbc, packed.ptr)
    device = torch.device(device)
    arrays = map(torch.from_numpy, (packed.atomic_numbers, *placed, packed.pbc, packed.ptr))
    made_on = device if device.type == "cuda" else torch.device("cpu")
    numbers, positions, cell, pbc, ptr = (array.to(made_on) for array in arrays)
    tiers = nested_tiers(positions, cell, pbc, ptr, cutoffs)
    graph = CrystalGraph(numbers, positions.to(dtype), cell.to(dtype), ptr, tiers)
    return graph if device == made_on else graph.to(device)


def nested_tiers(
    positions: Tensor, cell: Tensor, pbc: Tensor, ptr: Tensor, cutoffs: Sequence[float]
) -> tuple[BondTier, ...]:
    """Make the half lists of crystals for several cutoffs.

    The search is done once, at the longest cutoff; the shorter lists are taken from it in the same order.

    Args:
        positions: [N, 3], Angstrom.
        cell: [B, 3, 3], Angstrom.
        pbc: [B, 3], bool.
        ptr: crystal b owns the atoms ``ptr[b]:ptr[b + 1]``. [B+1], int64.
        cutoffs: Angstrom; equal ones share a tier.
    """
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
                _join_sites([tier.sites for tier in same_cutoff if tier.sites is not None]),
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
        sites = SiteProjectors.identity(graph.num_atoms, graph.positions)
        tiers = tuple(
            replace(
                tier,
                turns=BondTurns.identity(tier.num_bonds, graph.positions),
                sites=sites,
                vectors=graph.vectors(tier),
            )
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
        torch.cat([turns.rotation for turns in parts]), torch.cat([turns.counts for turns in parts], dim=1)
    )


def _join_sites(parts: Sequence[SiteProjectors]) -> SiteProjectors | None:
    return SiteProjectors(*map(torch.cat, zip(*parts, strict=True))) if parts else None


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

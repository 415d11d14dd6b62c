# SPDX-License-Identifier: MIT
"""Crystals as graphs of directed bonds, the common input of the baselines: made once, and a batch only joins them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.ops import bond_vectors, neighbor_list
from dtnn_fast.training.labelled_data import target_tensors


@dataclass(frozen=True)
class BondGraph:
    """Crystals one after the other, each bond from both of its ends.

    Only bond vectors are kept of the geometry, so a model that sees nothing else cannot depend on the origin or on the
    choice of the cell.

    Args:
        atomic_numbers: [N], int64.
        ptr: crystal b owns the atoms ``ptr[b]:ptr[b + 1]``. [B+1], int64.
        pairs: centers and neighbors, sorted by center. [2, E], int64.
        row_ptr: the bonds of atom i are ``row_ptr[i]:row_ptr[i + 1]``. [N+1], int64.
        vectors: from center to neighbor. [E, 3], Angstrom.
        volumes: volumes of the cells. [B], cubic Angstrom.
    """

    atomic_numbers: Tensor
    ptr: Tensor
    pairs: Tensor
    row_ptr: Tensor
    vectors: Tensor
    volumes: Tensor

    @property
    def num_atoms(self) -> int:
        """Number of atoms of all crystals."""
        return self.atomic_numbers.shape[0]

    @property
    def num_crystals(self) -> int:
        """Number of crystals."""
        return self.ptr.shape[0] - 1

    @property
    def atoms_per_crystal(self) -> Tensor:
        """[B], int64."""
        return self.ptr.diff()

    @property
    def crystal_of_atom(self) -> Tensor:
        """[N], int64."""
        return torch.repeat_interleave(torch.arange(self.num_crystals), self.atoms_per_crystal)

    def crystal_sum(self, atom_values: Tensor) -> Tensor:
        """Sums over the atoms of each crystal. [N, ...] -> [B, ...]."""
        sums = atom_values.new_zeros((self.num_crystals, *atom_values.shape[1:]))
        return sums.index_add(0, self.crystal_of_atom, atom_values)

    def crystal_mean(self, atom_values: Tensor) -> Tensor:
        """Means over the atoms of each crystal. [N, ...] -> [B, ...]."""
        counts = self.atoms_per_crystal.reshape(-1, *[1] * (atom_values.dim() - 1))
        return self.crystal_sum(atom_values) / counts


def build_graph(crystal: Crystal, cutoff: float, dtype: torch.dtype = torch.float32) -> BondGraph:
    """Build the graph of one crystal.

    Args:
        crystal: passed by `check_crystal`.
        cutoff: longest bond. Angstrom.
        dtype: dtype of vectors and volumes, which are computed in float64.
    """
    positions, cell = torch.from_numpy(crystal.positions), torch.from_numpy(crystal.cell)
    pairs, shifts, row_ptr = neighbor_list(positions, cell, torch.from_numpy(crystal.pbc), cutoff)
    vectors = bond_vectors(positions, cell, pairs, shifts)
    return BondGraph(
        torch.from_numpy(crystal.atomic_numbers),
        torch.tensor([0, crystal.num_atoms]),
        pairs,
        row_ptr,
        vectors.to(dtype),
        torch.linalg.det(cell).abs().to(dtype).reshape(1),
    )


def collate(graphs: Sequence[BondGraph]) -> BondGraph:
    """Put graphs one after the other.

    Args:
        graphs: at least one, made with one cutoff and dtype.
    """
    first_atom = np.cumsum([0, *(graph.num_atoms for graph in graphs)]).tolist()
    pairs = [graph.pairs + first for graph, first in zip(graphs, first_atom, strict=False)]
    return BondGraph(
        torch.cat([graph.atomic_numbers for graph in graphs]),
        _join_segments([graph.ptr for graph in graphs]),
        torch.cat(pairs, dim=1),
        _join_segments([graph.row_ptr for graph in graphs]),
        torch.cat([graph.vectors for graph in graphs]),
        torch.cat([graph.volumes for graph in graphs]),
    )


def _join_segments(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([parts[0][:1], *(part.diff() for part in parts)]).cumsum(0)


class LabelledGraphs:
    """Crystals with their graphs and target tensors.

    Args:
        crystals: labelled, cleaned and checked.
        targets: names from "electronic", "ionic" and "total".
        cutoff: longest bond. Angstrom.
    """

    def __init__(self, crystals: Sequence[Crystal], targets: Sequence[str], cutoff: float) -> None:
        self.crystals, self.targets = list(crystals), tuple(targets)
        self.graphs = [build_graph(crystal, cutoff) for crystal in self.crystals]
        self.tensors = target_tensors(self.crystals, self.targets)

    def batch(self, indices: Sequence[int] | np.ndarray) -> tuple[BondGraph, dict[str, Tensor]]:
        """The joined graph of some crystals, and their tensors [B, 3, 3] by target."""
        chosen = [int(index) for index in indices]
        graph = collate([self.graphs[index] for index in chosen])
        return graph, {target: tensors[chosen] for target, tensors in self.tensors.items()}

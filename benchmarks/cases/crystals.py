# SPDX-License-Identifier: MIT
"""The crystals and graphs that the cases run on: batches of the labelled crystals, and one large cell."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
import torch
from torch import Tensor

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.ops import NeighborList, NeighborOrder, neighbor_list, neighbor_order

CUTOFF = 6.0
BATCHES = ("1 crystal", "32 crystals", "1024 crystals")
LARGE = "large cell"
SIZES = (*BATCHES, LARGE)


@cache
def labelled() -> tuple[Crystal, ...]:
    """The bundled crystals with labels."""
    return tuple(load_labelled())


@dataclass(frozen=True)
class Batch:
    """Crystals one after the other, in float64 on the CPU."""

    crystals: tuple[Crystal, ...]

    @property
    def positions(self) -> Tensor:
        """[N, 3]."""
        return torch.tensor(np.concatenate([crystal.positions for crystal in self.crystals]))

    @property
    def cell(self) -> Tensor:
        """[B, 3, 3]."""
        return torch.tensor(np.stack([crystal.cell for crystal in self.crystals]))

    @property
    def pbc(self) -> Tensor:
        """[B, 3]."""
        return torch.tensor(np.stack([crystal.pbc for crystal in self.crystals]))

    @property
    def ptr(self) -> Tensor:
        """[B+1]."""
        return torch.tensor(np.cumsum([0, *(crystal.num_atoms for crystal in self.crystals)]))


def supercell(crystal: Crystal, num_atoms: int) -> Crystal:
    """Repeat a crystal to about `num_atoms` atoms, displaced as by heat, in random order as after a long simulation."""
    rng = np.random.default_rng(0)
    repeats = round((num_atoms / crystal.num_atoms) ** (1 / 3))
    steps = np.array(list(product(range(repeats), repeat=3)), dtype=float)
    positions = (crystal.positions[None] + (steps @ crystal.cell)[:, None]).reshape(-1, 3)
    order = rng.permutation(len(positions))
    positions = (positions + rng.normal(0, 0.05, positions.shape))[order]
    numbers = np.tile(crystal.atomic_numbers, repeats**3)[order]
    return Crystal.make(crystal.id, numbers, positions, crystal.cell * repeats)


@cache
def large_cell(density: float, num_atoms: int = 20000) -> Batch:
    """About 20,000 atoms of the crystal at this quantile of the number density."""
    by_density = sorted(labelled(), key=lambda crystal: crystal.num_atoms / abs(np.linalg.det(crystal.cell)))
    return Batch((supercell(by_density[int(density * len(by_density))], num_atoms),))


@cache
def batch(size: str) -> Batch:
    """The crystals of a size in `SIZES`; there are 955 labelled crystals, so the first 69 come twice in 1024."""
    if size == LARGE:
        return large_cell(0.5)
    count = int(size.split(maxsplit=1)[0])
    crystals = labelled()
    # Few crystals come from all over the set, which is not sorted by size.
    chosen = crystals[:: len(crystals) // count][:count] if count < len(crystals) else (crystals * 2)[:count]
    return Batch(chosen)


def equal_crystals(num_atoms: int, length: float, count: int = 512) -> Batch:
    """Cubic cells of 64, 128 or 256 displaced atoms: a simple, body- or face-centered lattice, 4 x 4 x 4 cells.

    Args:
        num_atoms: in each crystal.
        length: edge of the cell, Angstrom.
        count: number of crystals, each displaced in its own way.
    """
    rng = np.random.default_rng(num_atoms)
    half = 0.5
    basis = {
        64: [[0, 0, 0]],
        128: [[0, 0, 0], [half] * 3],
        256: [[0, 0, 0], [half, half, 0], [half, 0, half], [0, half, half]],
    }[num_atoms]
    steps = np.array(list(product(range(4), repeat=3)), dtype=float)
    sites = (steps[:, None] + np.array(basis)[None]).reshape(-1, 3) / 4
    numbers, cell = np.full(num_atoms, 14), np.eye(3) * length
    return Batch(
        tuple(
            Crystal.make(f"equal-{k}", numbers, sites * length + rng.normal(0, 0.3, (num_atoms, 3)), cell)
            for k in range(count)
        )
    )


@dataclass(frozen=True)
class Bonds:
    """The full list of a batch at `CUTOFF`."""

    batch: Batch
    list: NeighborList
    by_neighbor: NeighborOrder

    @property
    def num_atoms(self) -> int:
        """N."""
        return self.list.row_ptr.shape[0] - 1

    @property
    def num_bonds(self) -> int:
        """E."""
        return self.list.pairs.shape[1]


@cache
def bonds(size: str) -> Bonds:
    """The graph of a size in `SIZES`."""
    crystals = batch(size)
    found = neighbor_list(crystals.positions, crystals.cell, crystals.pbc, CUTOFF, crystals.ptr)
    return Bonds(crystals, found, neighbor_order(found.pairs, len(crystals.positions)))


@cache
def regular_bonds(num_bonds: int, num_atoms: int) -> tuple[Tensor, Tensor, NeighborOrder]:
    """Bonds of each atom to atoms near it in memory, in ascending order, as batches of crystals have them.

    Returns:
        pairs, row_ptr and the order by neighbor.
    """
    generator = torch.Generator().manual_seed(0)
    per_atom = num_bonds // num_atoms
    centers = torch.arange(num_atoms).repeat_interleave(per_atom)
    away = torch.randint(-20, 21, (num_atoms, per_atom), generator=generator).sort(1).values.flatten()
    pairs = torch.stack([centers, (centers + away).clamp(0, num_atoms - 1)])
    return pairs, torch.arange(num_atoms + 1) * per_atom, neighbor_order(pairs, num_atoms)


def random_tensors(device: torch.device, seed: int, *shapes: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Normal float32 values, drawn on the device."""
    generator = torch.Generator(device).manual_seed(seed)
    return tuple(torch.randn(shape, device=device, generator=generator) for shape in shapes)

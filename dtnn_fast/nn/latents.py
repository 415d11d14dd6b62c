# SPDX-License-Identifier: MIT
"""Latents: the atom and bond features that encoders compute in each layer and decoders read, with their channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .graph import BondTier, CrystalGraph
from .symmetric_tensors import MATRIX_COMPONENTS, UNIQUE_COLUMNS, UNIQUE_ROWS


@dataclass(frozen=True)
class Channels:
    """Numbers of scalars, vectors and rank-2 tensors on atoms and bonds.

    Args:
        scalar: scalars of atoms and of bonds.
        vector: vectors of atoms and of bonds.
        rank2: rank-2 tensors of atoms; messages carry as many rank-2 tensors as vectors.
        radial: functions of the radial basis.

    Raises:
        ValueError: a number is below 1.
    """

    scalar: int = 128
    vector: int = 32
    rank2: int = 32
    radial: int = 8

    def __post_init__(self) -> None:
        if min(self.scalar, self.vector, self.rank2, self.radial) < 1:
            raise ValueError(f"Channels: expected at least 1 of each, got {self}")


class Latents(NamedTuple):
    """The latents of one layer, in the conventions of docs/conventions.md.

    Each bond is stored once (a half list). A bond vector points from center to neighbor and changes sign with the
    direction of the bond.

    Args:
        atom_scalar: [N, Cs].
        atom_vector: [N, 3, Cv].
        atom_rank2: [N, 6, Ct].
        bond_scalar: [E, Cs], or None for an encoder without bond latents.
        bond_vector: [E, 3, Cv], or None.
        bond_length: lengths of the bonds, or None. [E], Angstrom.
        bonds: the bonds that the bond latents belong to, or None.
    """

    atom_scalar: Tensor
    atom_vector: Tensor
    atom_rank2: Tensor
    bond_scalar: Tensor | None
    bond_vector: Tensor | None
    bond_length: Tensor | None
    bonds: BondTier | None


class AtomOrbits(NamedTuple):
    """Weights and projector that turn a mean over the atoms of a reduced graph into the mean over all atoms.

    Args:
        atom_weight: number of atoms that each stored atom stands for. [N].
        projector: average of the 6x6 rotations over each crystal's point group. [B, 6, 6].
    """

    atom_weight: Tensor
    projector: Tensor

    @classmethod
    def of(cls, graph: CrystalGraph) -> AtomOrbits | None:
        """Return the weights and projector of a graph; None for a plain graph."""
        if graph.atom_weight is None or graph.projector is None:
            return None
        return cls(graph.atom_weight, graph.projector)

    def shares(self, ptr: Tensor) -> Tensor:
        """Divide each atom's weight by the sum over its crystal. [B+1] -> [N]."""
        sizes = ptr.diff()
        crystal = torch.repeat_interleave(sizes, output_size=self.atom_weight.shape[0])
        sums = torch.zeros_like(sizes, dtype=self.atom_weight.dtype).scatter_add(0, crystal, self.atom_weight)
        return self.atom_weight / sums[crystal]

    def projected(self, tensors: Tensor) -> Tensor:
        """Average symmetric tensors over the point groups. [..., B, 3, 3] -> [..., B, 3, 3]."""
        # Single elements, not lists of indices, which a CUDA graph cannot capture: they are copied to the GPU.
        components = torch.stack([tensors[..., i, j] for i, j in zip(UNIQUE_ROWS, UNIQUE_COLUMNS, strict=True)], dim=-1)
        averaged = (self.projector.to(tensors.dtype) @ components.unsqueeze(-1)).squeeze(-1)
        return torch.stack([averaged[..., place] for place in MATRIX_COMPONENTS], dim=-1).unflatten(-1, (3, 3))


class EncodedCrystals(NamedTuple):
    """Crystals as decoders read them.

    Args:
        latents: latents of the layers 1 ... n, in this order; None for a layer that was not kept.
        ptr: crystal b owns the atoms ``ptr[b]:ptr[b + 1]``. [B+1], int64.
        graph: the crystals, needed where the decoder builds bond latents.
        orbits: what the atoms stand for; None where every atom stands for itself.
        functional: index of each crystal's functional among those of the model; None for the first. [B], int64.
    """

    latents: Sequence[Latents | None]
    ptr: Tensor
    graph: CrystalGraph | None = None
    orbits: AtomOrbits | None = None
    functional: Tensor | None = None

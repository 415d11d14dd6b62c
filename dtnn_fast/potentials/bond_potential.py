# SPDX-License-Identifier: MIT
"""Potentials in torch whose energies follow from the vectors of the bonds, computed for many crystals at once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..crystals.crystal import Crystal
from ..encoders.pretrained import DirectedBonds
from ..errors import BadCrystalError
from ..nn.crystal_sums import crystal_of_atom, sum_over_atoms
from ..nn.graph import build_graph, crystal_batches
from ..ops import bond_to_atom_sum
from .potential import Potential, PotentialResult


class BondPotential(Potential):
    """A potential in torch. Forces and stresses are derivatives by the bond vectors, so no graph of them is needed.

    Args:
        name: for messages.
        elements: atomic numbers that it knows.
        cutoff: length up to which atoms are bonded. Angstrom
        batch_atoms: number of atoms that are computed together, except for one larger crystal.
        device: device of the potential's weights.
        dtype: dtype of the potential's weights. float32 takes about half the time of float64, and rounds force
            constants by displacements of 0.01 Angstrom by less than their error of second order.
    """

    def __init__(
        self,
        name: str,
        elements: Iterable[int],
        cutoff: float,
        batch_atoms: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__(name, frozenset(elements))
        self.cutoff, self.batch_atoms = cutoff, batch_atoms
        self.device, self.dtype = torch.device(device), dtype

    @abstractmethod
    def atom_energies(self, atomic_numbers: Tensor, bonds: DirectedBonds) -> Tensor:
        """Compute each atom's part of the energy, differentiable in the bond vectors. [N], eV.

        Args:
            atomic_numbers: of elements that the potential knows. [N], int64.
            bonds: every bond shorter than the cutoff from both of its ends.
        """

    def evaluate(self, crystals: Sequence[Crystal]) -> list[PotentialResult]:
        """See `Potential.evaluate`."""
        results: dict[int, PotentialResult] = {}
        for batch in crystal_batches(crystals, self.batch_atoms):
            results.update(zip(batch, self._evaluate([crystals[index] for index in batch]), strict=True))
        return [results[index] for index in range(len(crystals))]

    def _evaluate(self, crystals: Sequence[Crystal]) -> list[PotentialResult]:
        for crystal in crystals:
            if not crystal.pbc.all():
                raise BadCrystalError(f"{crystal.label}: expected a crystal that is periodic in all directions")
        graph = build_graph(crystals, (self.cutoff,), self.dtype, self.device)
        tier = graph.tier(self.cutoff)
        vectors = graph.vectors(tier).detach().requires_grad_()
        with torch.enable_grad():
            atom_energies = self.atom_energies(graph.atomic_numbers, DirectedBonds.from_half_list(tier, vectors))
            # Zero for crystals whose atoms are all alone.
            (slopes,) = torch.autograd.grad(atom_energies.sum(), vectors, allow_unused=True, materialize_grads=True)
        vectors, energies = vectors.detach(), sum_over_atoms(atom_energies.detach(), graph.ptr)
        # A bond vector is the neighbor's position minus the center's.
        forces = -bond_to_atom_sum(slopes, tier.pairs, tier.row_ptr, "difference", tier.by_neighbor)
        virials = self._virials(slopes, vectors, crystal_of_atom(graph.ptr, graph.num_atoms)[tier.pairs[0]], graph.ptr)
        volumes = np.abs(np.linalg.det(np.array([crystal.cell for crystal in crystals])))
        stresses = virials.cpu().double().numpy() / volumes[:, None, None]
        parts = np.split(forces.cpu().double().numpy(), graph.ptr[1:-1].cpu().numpy())
        return list(map(PotentialResult, energies.tolist(), parts, stresses))

    def _virials(self, slopes: Tensor, vectors: Tensor, crystal_of_bond: Tensor, ptr: Tensor) -> Tensor:
        """Sum slope times vector over the bonds of each crystal. [B, 3, 3], eV"""
        products = (slopes[:, :, None] * vectors[:, None, :]).flatten(1)
        # The bonds of a crystal are adjacent; in a fixed order, on every device.
        ends = torch.searchsorted(crystal_of_bond, torch.arange(ptr.shape[0] - 1, device=ptr.device), right=True)
        starts = torch.cat([ends.new_zeros(1), ends])
        places = torch.arange(len(products), device=ptr.device)
        pairs = torch.stack([crystal_of_bond, places])
        sums = bond_to_atom_sum(products, pairs, starts) if len(products) else products.new_zeros(len(ptr) - 1, 9)
        virials = sums.unflatten(1, (3, 3))
        return 0.5 * (virials + virials.transpose(1, 2))

# SPDX-License-Identifier: MIT
"""The energy readout during training: linear in the encoder's scalars, on top of fitted constants of the elements.

E / n = mean over atoms of  c_Z + sigma (w . s_a + d_Z)

The constants c_Z are fitted to the energies of the training crystals; sigma is the root mean square of the residuals.
The weights w of the last layer's scalars s_a and the shifts d_Z start at 0 and are learned.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..crystals.elements import MAX_ATOMIC_NUMBER
from ..nn.crystal_sums import crystal_of_atom, sum_over_atoms
from ..nn.graph import CrystalGraph
from ..nn.latents import AtomOrbits
from ..potentials.energy_model import EnergyHead

# Smaller residuals are rounding errors of the potential. eV per atom.
_SMALLEST_DEVIATION = 1e-3


class CompositionFit(NamedTuple):
    """Energies fitted by one constant per element.

    Args:
        constants: by atomic number, 0 for elements that no crystal has. [119], float64, eV.
        deviation: root mean square of the residuals of the energy per atom. eV.
        elements: atomic numbers of the crystals.
    """

    constants: Tensor
    deviation: float
    elements: tuple[int, ...]


def element_counts(atomic_numbers: Tensor, ptr: Tensor, atom_weight: Tensor | None = None) -> Tensor:
    """Count the atoms of each element in each crystal.

    Args:
        atomic_numbers: atomic numbers of all atoms. [N], int64.
        ptr: crystal b owns the atoms ``ptr[b]:ptr[b + 1]``. [B+1], int64.
        atom_weight: see `CrystalGraph`; None where every atom stands for itself. [N].

    Returns:
        Counts by atomic number. [B, 119], float64.
    """
    width = MAX_ATOMIC_NUMBER + 1
    places = crystal_of_atom(ptr, len(atomic_numbers)) * width + atomic_numbers
    # Not by torch.bincount, which waits for a GPU. Whole numbers have exact sums in any order.
    counts = torch.zeros((len(ptr) - 1) * width, dtype=torch.float64, device=ptr.device)
    weight = counts.new_ones(()).expand_as(places) if atom_weight is None else atom_weight.double()
    return counts.scatter_add_(0, places, weight).view(-1, width)


def fit_compositions(counts: Tensor, energies: Tensor) -> CompositionFit:
    """Fit constants c of the elements to the energies per atom.

    minimise  sum_b (E_b / n_b - sum_Z x_bZ c_Z)^2,    x_bZ = n_bZ / n_b

    Where several sets of constants fit equally well, because two elements only occur together, the smallest are taken.

    Args:
        counts: `element_counts` of the crystals, at least one. [B, 119].
        energies: energies of the crystals. [B], float64, eV.

    Example:
        >>> fit = fit_compositions(element_counts(graph.atomic_numbers, graph.ptr), energies)
        >>> residuals = energies - element_counts(graph.atomic_numbers, graph.ptr) @ fit.constants
    """
    sizes = counts.sum(1)
    present = torch.nonzero(counts.sum(0)).flatten()
    fractions, per_atom = counts[:, present] / sizes[:, None], energies / sizes
    solution = torch.linalg.lstsq(fractions, per_atom[:, None], driver="gelsd").solution.squeeze(1)
    constants = counts.new_zeros(counts.shape[1]).index_copy(0, present, solution)
    residuals = per_atom - fractions @ solution
    deviation = max(float(residuals.square().mean().sqrt()), _SMALLEST_DEVIATION)
    return CompositionFit(constants, deviation, tuple(present.tolist()))


class EnergyErrors(NamedTuple):
    """Errors of the energies of crystals, in eV per atom.

    Args:
        errors: prediction minus label. [B].
        residuals: label minus prediction of the constants of the elements alone. [B].
        known: whether all elements of the crystal were in the fit. [B], bool.
    """

    errors: Tensor
    residuals: Tensor
    known: Tensor


class EnergyTerm(nn.Module):
    """The trainable readout of the energy.

    Args:
        channels: number of scalars of the encoder's last layer.
        fit: fit of the training crystals' energies.
    """

    constants: Tensor
    deviation: Tensor
    is_unknown: Tensor

    def __init__(self, channels: int, fit: CompositionFit) -> None:
        super().__init__()
        self.elements = fit.elements
        # Zeros, so that training starts at the fit and weight decay pulls towards it, not towards an energy of 0.
        self.weight = nn.Parameter(torch.zeros(channels))
        self.shift = nn.Parameter(torch.zeros(MAX_ATOMIC_NUMBER + 1))
        self.register_buffer("constants", fit.constants)
        self.register_buffer("deviation", torch.tensor(fit.deviation, dtype=torch.float64))
        is_unknown = torch.ones(MAX_ATOMIC_NUMBER + 1, dtype=torch.float64)
        is_unknown[list(fit.elements)] = 0.0
        self.register_buffer("is_unknown", is_unknown, persistent=False)

    def errors(self, scalar: Tensor, graph: CrystalGraph, energies: Tensor) -> EnergyErrors:
        """Compute the errors of the energies.

        Args:
            scalar: scalars of the encoder's last layer. [N, C].
            graph: the crystals.
            energies: labels of the crystals. [B], float64, eV.
        """
        counts = element_counts(graph.atomic_numbers, graph.ptr, graph.atom_weight)
        sizes = counts.sum(1, keepdim=True)
        fractions = counts / sizes
        residuals = energies / sizes.squeeze(1) - fractions @ self.constants
        of_atoms = scalar @ self.weight
        orbits = AtomOrbits.of(graph)
        if orbits is not None:
            of_atoms = orbits.shares(graph.ptr) * of_atoms
        from_scalars = sum_over_atoms(of_atoms, graph.ptr)
        if orbits is None:  # else the shares add up to 1 in each crystal
            from_scalars = from_scalars / graph.ptr.diff()
        predicted = self.deviation * (from_scalars + fractions.to(scalar.dtype) @ self.shift)
        return EnergyErrors(predicted - residuals, residuals, counts @ self.is_unknown == 0)

    def head(self) -> EnergyHead:
        """Fold deviation and shifts into weights and constants of the saved form, on the CPU."""
        weight = (self.deviation * self.weight.double()).detach().cpu()
        constants = (self.constants + self.deviation * self.shift.double()).detach().cpu()
        return EnergyHead(weight, constants, self.elements)

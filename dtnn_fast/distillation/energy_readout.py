# SPDX-License-Identifier: MIT
"""The energy while it is learned: a linear readout of scalars that starts at the constants of the elements.

With s_a the scalars of the encoder's last layer, c_Z and sigma the constants of the elements and the deviation of what
they leave (compositions.py), and w and d_Z learned from 0,

E / n = mean over atoms of  c_Z + sigma (w . s_a + d_Z)
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..crystals.elements import MAX_ATOMIC_NUMBER
from ..errors import DTNNError
from ..nn.graph import CrystalGraph
from .energy_model import EnergyHead
from .labels import ENERGY, read_manifest, read_shard

# In eV per atom: less than this is rounding of the potential, and nothing to learn.
_SMALLEST_DEVIATION = 1e-3


class CompositionFit(NamedTuple):
    """The constants of the elements, and what they leave.

    Args:
        constants: by atomic number, 0 for elements that no crystal has. [119], float64, eV.
        deviation: root mean square of the energy per atom that is left. eV.
        elements: atomic numbers of the crystals.
    """

    constants: Tensor
    deviation: float
    elements: tuple[int, ...]


def element_counts(atomic_numbers: Tensor, ptr: Tensor) -> Tensor:
    """How many atoms of each element each crystal has.

    Args:
        atomic_numbers: of all atoms. [N], int64.
        ptr: crystal b owns the atoms ``ptr[b]:ptr[b + 1]``. [B+1], int64.

    Returns:
        By atomic number. [B, 119], float64.
    """
    width = MAX_ATOMIC_NUMBER + 1
    crystal = torch.repeat_interleave(ptr.diff())
    counts = torch.bincount(crystal * width + atomic_numbers, minlength=(len(ptr) - 1) * width)
    return counts.view(-1, width).double()


def fit_compositions(counts: Tensor, energies: Tensor) -> CompositionFit:
    """Fit constants c to the energies per atom.

    minimise  sum_b (E_b / n_b - sum_Z x_bZ c_Z)^2,    x_bZ = n_bZ / n_b

    Of the constants that fit equally well, as where two elements only occur together, the smallest are taken.

    Args:
        counts: `element_counts` of the crystals, at least one. [B, 119].
        energies: of the crystals. [B], float64, eV.

    Returns:
        The fit.

    Example:
        >>> fit = fit_compositions(element_counts(graph.atomic_numbers, graph.ptr), energies)
        >>> left = energies - element_counts(graph.atomic_numbers, graph.ptr) @ fit.constants
    """
    sizes = counts.sum(1)
    present = torch.nonzero(counts.sum(0)).flatten()
    fractions, per_atom = counts[:, present] / sizes[:, None], energies / sizes
    found = torch.linalg.lstsq(fractions, per_atom[:, None], driver="gelsd").solution.squeeze(1)
    constants = counts.new_zeros(counts.shape[1]).index_copy(0, present, found)
    left = per_atom - fractions @ found
    deviation = max(float(left.square().mean().sqrt()), _SMALLEST_DEVIATION)
    return CompositionFit(constants, deviation, tuple(present.tolist()))


def fit_labels(folder: Path) -> CompositionFit:
    """Fit the energies of the labelled training crystals; see `fit_compositions`.

    Args:
        folder: what `labels.label` filled.

    Raises:
        BadFileError: a shard is missing or damaged.
        DTNNError: the labels are from before energies were stored.
    """
    counts, energies = [], []
    for number in range(int(read_manifest(folder)["crystals"]["shards"])):
        shard = read_shard(folder, number)
        if ENERGY not in shard:
            raise DTNNError(
                f"distill: the labels in {folder} have no energies, since they were made before energies were stored: "
                f"label again in another folder, or train with an energy weight of 0"
            )
        training = shard["held_out"] == 0
        counts.append(element_counts(shard["atomic_numbers"].long(), shard["ptr"])[training])
        energies.append(shard[ENERGY][training])
    if not sum(map(len, energies)):
        raise DTNNError(f"distill: expected crystals to learn from in {folder}, got none")
    return fit_compositions(torch.cat(counts), torch.cat(energies))


class EnergyErrors(NamedTuple):
    """What is wrong about the energies of crystals, in eV per atom.

    Args:
        errors: prediction minus label. [B].
        left: label minus the constants of the elements: the error of predicting these alone, times -1. [B].
        known: whether the elements of the crystal were all in the fit. [B], bool.
    """

    errors: Tensor
    left: Tensor
    known: Tensor


class EnergyTerm(nn.Module):
    """The readout of the energy that learns.

    Args:
        channels: scalars of the encoder's last layer.
        fit: of the training crystals.
    """

    constants: Tensor
    deviation: Tensor

    def __init__(self, channels: int, fit: CompositionFit) -> None:
        super().__init__()
        self.elements = fit.elements
        # Zeros, so that training begins at the fit, and weight decay pulls towards it and not towards no energy at all.
        self.weight = nn.Parameter(torch.zeros(channels))
        self.shift = nn.Parameter(torch.zeros(MAX_ATOMIC_NUMBER + 1))
        self.register_buffer("constants", fit.constants)
        self.register_buffer("deviation", torch.tensor(fit.deviation, dtype=torch.float64))

    def errors(self, scalar: Tensor, graph: CrystalGraph, energies: Tensor) -> EnergyErrors:
        """How far the energies are from their labels.

        Args:
            scalar: of the encoder's last layer. [N, C].
            graph: the crystals.
            energies: their labels. [B], float64, eV.
        """
        counts = element_counts(graph.atomic_numbers, graph.ptr)
        sizes = counts.sum(1, keepdim=True)
        fractions = counts / sizes
        left = energies / sizes.squeeze(1) - fractions @ self.constants
        read = torch.segment_reduce(scalar @ self.weight, "mean", offsets=graph.ptr)
        learned = self.deviation * (read + fractions.to(scalar.dtype) @ self.shift)
        unknown = counts.new_ones(counts.shape[1])
        unknown[list(self.elements)] = 0.0
        return EnergyErrors(learned - left, left, counts @ unknown == 0)

    def head(self) -> EnergyHead:
        """What has been learned, on the CPU."""
        weight = (self.deviation * self.weight.double()).detach().cpu()
        constants = (self.constants + self.deviation * self.shift.double()).detach().cpu()
        return EnergyHead(weight, constants, self.elements)

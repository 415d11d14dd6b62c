# SPDX-License-Identifier: MIT
"""The energy while it is learned: a linear readout of scalars that starts at the constants of the elements.

With s_a the scalars of the encoder's last layer, c_Z and sigma the constants of the elements and the deviation of what
they leave (compositions.py), and w and d_Z learned from 0,

E / n = mean over atoms of  c_Z + sigma (w . s_a + d_Z)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..crystals.elements import MAX_ATOMIC_NUMBER
from ..nn.graph import CrystalGraph
from .compositions import CompositionFit, element_counts
from .energy_model import EnergyHead


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

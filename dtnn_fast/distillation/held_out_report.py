# SPDX-License-Identifier: MIT
"""Report on held-out crystals: explained variance of the teacher's latents, and errors of the energies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .batches import LabelledBatch
from .labels import ENERGY, RANKS
from .student import LayerMatch, Student

# Channels with a smaller part of the mean variance are constant, and have nothing to explain.
_SMALLEST_VARIANCE_RATIO = 1e-6


@dataclass(frozen=True)
class ExplainedVariance:
    """Explained variance of the latents of one layer of the teacher.

    Args:
        ours: the student's layer, counted from 1.
        theirs: the teacher's layer, counted from 1.
        ranks: explained variance by rank: 1 for exact latents, 0 for predicting the mean.
    """

    ours: int
    theirs: int
    ranks: dict[str, float]


@dataclass(frozen=True)
class EnergyQuality:
    """Quality of predicted energies.

    Args:
        explained: explained variance of the energy per atom minus the constants of the elements.
        mae_mev: mean absolute error in meV per atom.
        composition_mae_mev: mean absolute error of the constants of the elements alone, in meV per atom.
    """

    explained: float
    mae_mev: float
    composition_mae_mev: float


@dataclass(frozen=True)
class EnergyReport:
    """Report on the energies of held-out crystals.

    Args:
        crystals: number of crystals.
        left_out: number of further crystals, with an element that no training crystal has.
        quality: None without crystals.
    """

    crystals: int
    left_out: int
    quality: EnergyQuality | None

    def sentence(self) -> str:
        """Give the report in one line."""
        left_out = f"; {self.left_out} left out with elements that no training crystal has" if self.left_out else ""
        if self.quality is None:
            return f"energies: no crystals{left_out}"
        mae, composition_mae = self.quality.mae_mev, self.quality.composition_mae_mev
        return (
            f"energies: mean absolute error {mae:.1f} meV per atom, constants of the elements alone "
            f"{composition_mae:.1f}; explained variance of their residuals {self.quality.explained:.3f}{left_out}"
        )


@dataclass(frozen=True)
class HeldOutReport:
    """Report on held-out crystals.

    Args:
        latents: one entry per matched layer; empty without crystals.
        energies: None where they are not learned.
    """

    latents: list[ExplainedVariance] = field(default_factory=list)
    energies: EnergyReport | None = None


@torch.no_grad()
def evaluate(student: Student, batches: Iterable[LabelledBatch], device: torch.device | str) -> HeldOutReport:
    """Compute the explained variance for each match and rank, and the errors of the energies where they are learned.

    1 - sum w |prediction - label|^2 / sum w |label - mean|^2,  for each channel, then the mean over channels

    The weights w of the atoms are those of `Student.channel_errors`; the mean is that of the training crystals.

    Args:
        student: the trained student.
        batches: labelled crystals.
        device: device of the student.
    """
    student.eval()
    energies: list[Tensor] = []
    sums: dict[tuple[LayerMatch, str], tuple[Tensor, Tensor]] = {}
    for cpu_batch in batches:
        batch = cpu_batch.to(device)
        latents = student.encoder(batch.graph)
        if student.energy is not None:
            energy_errors = student.energy.errors(latents[-1].atom_scalar, batch.graph, batch.labels[ENERGY])
            energies.append(torch.stack([values.double() for values in energy_errors]).cpu())
        for key, channel_errors in student.channel_errors(latents, batch.labels, batch.graph.atom_weight).items():
            errors, squares = sums.get(key, (torch.zeros(()), torch.zeros(())))
            sums[key] = errors + channel_errors.errors.double().cpu(), squares + channel_errors.squares.double().cpu()
    explained: dict[LayerMatch, dict[str, float]] = {}
    for (match, rank), (errors, squares) in sums.items():
        varies = squares > _SMALLEST_VARIANCE_RATIO * squares.mean()
        unexplained = float((errors / squares)[varies].mean()) if varies.any() else 1.0
        explained.setdefault(match, {})[rank] = 1.0 - unexplained
    layers = [ExplainedVariance(match.ours, match.theirs, ranks) for match, ranks in explained.items()]
    return HeldOutReport(layers, energy_report(energies) if student.energy is not None else None)


def energy_report(batches: list[Tensor]) -> EnergyReport:
    """Summarise the `EnergyErrors` of batches.

    explained = 1 - sum errors^2 / sum residuals^2

    Args:
        batches: errors, residuals, and whether all elements are known, stacked for each batch. [3, B] each, float64.
    """
    errors, residuals, known = torch.cat([torch.zeros(3, 0, dtype=torch.float64), *batches], dim=1)
    errors, residuals = errors[known > 0], residuals[known > 0]
    num_crystals, left_out = len(errors), len(known) - len(errors)
    if not num_crystals:
        return EnergyReport(0, left_out, None)
    explained = 1.0 - float(errors.square().sum() / residuals.square().sum().clamp(min=1e-12))
    mae, composition_mae = (1000.0 * float(values.abs().mean()) for values in (errors, residuals))
    return EnergyReport(num_crystals, left_out, EnergyQuality(explained, mae, composition_mae))


def explained_variance_rows(layers: Iterable[ExplainedVariance]) -> list[list[str]]:
    """Make the rows of a table: the student's layer, the teacher's, and the explained variance of each rank."""
    return [
        [
            str(layer.ours),
            str(layer.theirs),
            *(f"{layer.ranks[rank]:.3f}" if rank in layer.ranks else "-" for rank in RANKS),
        ]
        for layer in layers
    ]

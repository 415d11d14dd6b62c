# SPDX-License-Identifier: MIT
"""How much of the teacher the encoder explains, on crystals of chemical systems that it never saw."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .batches import Batch
from .labels import ENERGY, RANKS
from .student import Match, Student

# A channel of the teacher's that is the same on all atoms has nothing to explain.
_SMALLEST_PART = 1e-6


@dataclass(frozen=True)
class Explained:
    """The explained variance of one layer of the teacher's.

    Args:
        ours: the layer that learned it.
        theirs: the teacher's layer.
        ranks: by rank; 1 is everything, 0 no more than the mean.
    """

    ours: int
    theirs: int
    ranks: dict[str, float]


@dataclass(frozen=True)
class EnergyQuality:
    """How well energies are predicted.

    Args:
        explained: part of the variance of the energy per atom that is explained, of what the constants of the elements
            leave.
        mae_mev: mean absolute error in meV per atom.
        composition_mae_mev: that of the constants of the elements alone.
    """

    explained: float
    mae_mev: float
    composition_mae_mev: float


@dataclass(frozen=True)
class EnergyReport:
    """The energies of held-out crystals.

    Args:
        crystals: how many crystals it is about.
        left_out: how many more there are, with an element that no training crystal has.
        quality: None without crystals.
    """

    crystals: int
    left_out: int
    quality: EnergyQuality | None

    def sentence(self) -> str:
        """The report in a line."""
        without = f"; {self.left_out} left out with elements that were not learned" if self.left_out else ""
        if self.quality is None:
            return f"energies: no crystals{without}"
        known = self.quality
        return (
            f"energies: mean absolute error {known.mae_mev:.1f} meV per atom, constants of the elements alone "
            f"{known.composition_mae_mev:.1f}; explained variance of what these leave {known.explained:.3f}{without}"
        )


@dataclass(frozen=True)
class HeldOut:
    """What a student makes of held-out crystals.

    Args:
        latents: one entry per match; none without crystals.
        energies: None where they are not learned.
    """

    latents: list[Explained] = field(default_factory=list)
    energies: EnergyReport | None = None


@torch.no_grad()
def evaluate(student: Student, batches: Iterable[Batch], device: torch.device | str) -> HeldOut:
    """Explained variance per match and rank, with the weights of the atoms of `Student.channel_errors`.

    1 - sum w |prediction - label|^2 / sum w |label - mean|^2,  for each channel, then the mean over channels

    Args:
        student: what learned.
        batches: labelled crystals; the mean is that of the training crystals.
        device: where the student is.

    Returns:
        The explained variances, and the errors of energies where they are learned.
    """
    student.eval()
    energies: list[Tensor] = []
    sums: dict[tuple[Match, str], tuple[Tensor, Tensor]] = {}
    for batch in batches:
        there = batch.to(device)
        latents = student.encoder(there.graph)
        if student.energy is not None:
            found = student.energy.errors(latents[-1].atom_scalar, there.graph, there.labels[ENERGY])
            energies.append(torch.stack([values.double() for values in found]).cpu())
        for key, part in student.channel_errors(latents, there.labels).items():
            errors, squares = sums.get(key, (torch.zeros(()), torch.zeros(())))
            sums[key] = errors + part.errors.double().cpu(), squares + part.squares.double().cpu()
    explained: dict[Match, dict[str, float]] = {}
    for (match, rank), (errors, squares) in sums.items():
        varies = squares > _SMALLEST_PART * squares.mean()
        unexplained = float((errors / squares)[varies].mean()) if varies.any() else 1.0
        explained.setdefault(match, {})[rank] = 1.0 - unexplained
    layers = [Explained(match.ours, match.theirs, ranks) for match, ranks in explained.items()]
    return HeldOut(layers, energy_report(energies) if student.energy is not None else None)


def energy_report(parts: list[Tensor]) -> EnergyReport:
    """The report of the `EnergyErrors` of batches, each stacked into one tensor.

    explained = 1 - sum errors^2 / sum left^2

    Args:
        parts: errors, what the composition leaves, and whether all elements are known. [3, B] each, float64.
    """
    errors, left, known = torch.cat([torch.zeros(3, 0, dtype=torch.float64), *parts], dim=1)
    chosen = known > 0
    errors, left = errors[chosen], left[chosen]
    count, left_out = len(errors), len(known) - len(errors)
    if not count:
        return EnergyReport(0, left_out, None)
    explained = 1.0 - float(errors.square().sum() / left.square().sum().clamp(min=1e-12))
    mae, composition_mae = (1000.0 * float(values.abs().mean()) for values in (errors, left))
    return EnergyReport(count, left_out, EnergyQuality(explained, mae, composition_mae))


def rows(explained: Iterable[Explained]) -> list[list[str]]:
    """A table: our layer, the teacher's, and the explained variance of each rank."""
    return [
        [str(e.ours), str(e.theirs), *(f"{e.ranks[rank]:.3f}" if rank in e.ranks else "-" for rank in RANKS)]
        for e in explained
    ]

# SPDX-License-Identifier: MIT
"""Settings of the training of a distillation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import inf
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..encoders.native import NativeEncoderConfig
    from .student import LayerMatch


def mean_bonds(cutoffs: Sequence[float]) -> tuple[float, ...]:
    """Compute the mean number of bonds of an atom over the bundled labelled crystals, rounded to 0.1.

    Args:
        cutoffs: Angstrom.

    Returns:
        A mean for each cutoff, at least 0.1.
    """
    # Imported late: the command line shows the defaults below in its help, without waiting for torch.
    import torch

    from ..datasets.bundled import load_labelled
    from ..nn.graph import build_graph

    graph = build_graph(load_labelled(), cutoffs, torch.float64)
    counts = {tier.cutoff: 2 * tier.num_bonds / graph.num_atoms for tier in graph.tiers}
    return tuple(max(round(counts[cutoff], 1), 0.1) for cutoff in cutoffs)


@dataclass(frozen=True)
class DistillSettings:
    """Settings of the training; `LabelSettings` has those of crystals and labels.

    Args:
        encoder: settings of the student's encoder; its readouts get the channels of the labels.
        matches: matches of the student's layers with the teacher's.
        epochs: number of passes over the crystals.
        batch_atoms: maximum number of atoms per step and process, except for one larger crystal.
        learning_rate: maximum learning rate; decays to zero on a half cosine.
        warmup: number of steps in which the learning rate rises from 0.
        weight_decay: weight decay of AdamW.
        clip_norm: larger gradients are scaled down to this norm.
        average: decay per step of the moving average of the weights; the averaged weights are saved.
        seed: seed of the initial weights and the order of crystals.
        energy_weight: weight of the energies in the loss, beside 1 for the latents; 0 to learn latents only.

    Raises:
        ValueError: a setting is out of range.
    """

    encoder: NativeEncoderConfig
    matches: tuple[LayerMatch, ...]
    epochs: float = 22.0
    batch_atoms: int = 128
    learning_rate: float = 2e-3
    warmup: int = 300
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    average: float = 0.998
    seed: int = 0
    energy_weight: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.energy_weight < inf:
            raise ValueError(
                f"DistillSettings: expected a finite `energy_weight` of 0 or more, got {self.energy_weight}"
            )
        weights = [match.weight for match in self.matches]
        positive = min(self.epochs, self.batch_atoms, self.learning_rate, self.clip_norm, *weights)
        if positive <= 0 or not self.matches or not 0 <= self.average < 1 or min(self.warmup, self.weight_decay) < 0:
            raise ValueError(f"DistillSettings: expected positive sizes and `average` in [0, 1), got {self}")

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values for a JSON file."""
        values = asdict(self) | {"encoder": self.encoder.to_json()}
        if not self.energy_weight:
            del values["energy_weight"]  # so that runs of versions without energies can be continued
        return values

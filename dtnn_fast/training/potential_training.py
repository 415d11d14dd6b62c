# SPDX-License-Identifier: MIT
"""Training of an `EnergyModel` on force constants at q = 0, energies, forces and stresses; see `TermTrainer`.

Force constants Phi are taught by forces: of a crystal that is displaced by u and by -u along a random vector u,

    (F(u) - F(-u)) / 2 = -Phi u + O(u^3)

so a training step needs second derivatives of the energy, and no third ones. With W = Phi^(-1/2) (`LatticeLabels`) and
u = s W z of a random z of normal numbers, the mean square of W (F(u) - F(-u)) / 2 + W Phi u over z is s^2 times the
square of the norm of W (Phi' - Phi) W with the model's force constants Phi': the loss of `lattice_loss`, in which soft
modes count. (An unbiased estimate by random vectors: M. Hutchinson, Commun. Stat. Simul. 18, 1059 (1989).)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..crystals.crystal import Crystal
from ..encoders.native import NativeEncoder
from ..errors import DTNNError
from ..nn.crystal_sums import sum_over_atoms
from ..nn.graph import CrystalGraph, build_graph
from ..potentials.energy_model import EnergyModel
from ..potentials.energy_potential import energy_slopes
from .energy_readout import EnergyTerm, element_counts, fit_compositions
from .force_frames import ForceFrame
from .lattice_loss import LatticeLabels
from .term_trainer import TermSettings, TermTrainer

# What a potential is taught.
POTENTIAL_TERMS = ("force_constants", "energy", "forces", "stress")
# Root mean square of the displacements by which force constants are taught: forces in float32 have five digits then,
# and the error of third order is a few per cent in the softest modes alone. Angstrom
_DISPLACEMENT = 0.02
# Forces of this size or less count by their error; larger ones by their relative error. eV/Angstrom
_FORCE_SIZE = 0.5


@dataclass(frozen=True)
class PotentialSettings(TermSettings):
    """Settings of a training; see `TermSettings` for the others.

    Args:
        energy_weight: weight in the loss of the error of the energy per atom in eV, where that of the force constants,
            relative to their size, has 1.
        force_weight: weight of the relative error of the forces.
        stress_weight: weight of the error of stress times volume per atom in eV.
    """

    batch_size: int = 8
    energy_weight: float = 2.0
    force_weight: float = 0.5
    stress_weight: float = 0.5


class _Springs(NamedTuple):
    """A crystal with its force constants, and their inverse root; see `LatticeLabels`. [3 N, 3 N], float64."""

    crystal: Crystal
    force_constants: np.ndarray
    weight: np.ndarray


class EnergyLearner(nn.Module):
    """An encoder with a readout that is learned.

    Args:
        encoder: with its initial weights.
        term: the readout, fitted to the energies of the training crystals.
    """

    def __init__(self, encoder: NativeEncoder, term: EnergyTerm) -> None:
        super().__init__()
        self.encoder, self.term = encoder, term

    def forward(self, graph: CrystalGraph) -> Tensor:
        """Compute the energies of crystals without the constants of their elements. [B], eV."""
        scalar = self.encoder(graph, all_bonds=False)[-1].atom_scalar
        of_atoms = scalar @ self.term.weight + self.term.shift[graph.atomic_numbers]
        return self.term.deviation.to(scalar.dtype) * sum_over_atoms(of_atoms, graph.ptr)

    def energy_model(self) -> EnergyModel:
        """Make the model that was learned."""
        return EnergyModel(self.encoder, self.term.head()).eval()


def new_learner(encoder: NativeEncoder, frames: Sequence[ForceFrame]) -> EnergyLearner:
    """Make a learner, with constants of the elements that fit the energies of the frames.

    Args:
        encoder: encoder with the initial weights, and all its layers; it is trained in place.
        frames: at least one.
    """
    numbers = torch.from_numpy(np.concatenate([frame.crystal.atomic_numbers for frame in frames]))
    ptr = torch.tensor([0, *np.cumsum([frame.crystal.num_atoms for frame in frames]).tolist()])
    energies = torch.tensor([frame.energy for frame in frames], dtype=torch.float64)
    fit = fit_compositions(element_counts(numbers, ptr), energies)
    return EnergyLearner(encoder, EnergyTerm(encoder.channels.scalar, fit))


class PotentialTrainer(TermTrainer[EnergyLearner]):
    """Training of one potential. An example is a crystal with force constants, or a frame.

    Args:
        model: learner with its initial weights; it is trained in place, on its device.
        crystals: crystals with force constants; may be empty.
        frames: crystals with energies and forces.
        settings: settings.
        folder: folder of the checkpoint, from which training resumes; None writes none.

    Raises:
        DTNNError: there are no frames.
        BadFileError: the checkpoint is damaged, or belongs to a model with other settings.
    """

    command = "train-potential"

    def __init__(
        self,
        model: EnergyLearner,
        crystals: Sequence[Crystal],
        frames: Sequence[ForceFrame],
        settings: PotentialSettings,
        folder: Path | None = None,
    ) -> None:
        if not frames:
            raise DTNNError("train-potential: expected crystals with energies and forces, got none")
        self.springs = [_springs(crystal) for crystal in crystals]
        self.frames = list(frames)
        constants = model.term.constants.cpu().numpy()
        # Energies without the constants of the elements, so that float32 holds them.
        self._energies = [f.energy - float(constants[f.crystal.atomic_numbers].sum()) for f in self.frames]
        given = (1.0, settings.energy_weight, settings.force_weight, settings.stress_weight)
        weights = dict(zip(POTENTIAL_TERMS, given, strict=True))
        super().__init__(model, len(self.springs) + len(self.frames), weights, settings, folder)

    def terms(self, examples: Sequence[int], epoch: int) -> dict[str, Tensor]:
        """See `TermTrainer.terms`.

        "force_constants": see above, over s and the square root of 3 N. "energy": mean error per atom. "forces": mean
        length of the error over 0.5 eV/Angstrom plus the length of the force. "stress": mean norm of the error times
        the volume per atom. Each is a mean over the crystals.
        """
        pairs: list[tuple[_Springs, np.ndarray, float]] = []
        frames: list[int] = []
        for example in examples:
            if example >= len(self.springs):
                frames.append(example - len(self.springs))
                continue
            springs = self.springs[example]
            vector, length = _random_displacement(springs, (self.settings.seed, epoch, example))
            pairs.append((springs, vector, length))
        crystals = [
            replace(one.crystal, positions=one.crystal.positions + sign * vector, operations=None)
            for one, vector, _ in pairs
            for sign in (1.0, -1.0)
        ] + [self.frames[number].crystal for number in frames]
        energies, forces, virials = self._derivatives(crystals)
        parts = forces.split([crystal.num_atoms for crystal in crystals])
        terms: dict[str, list[Tensor]] = {name: [] for name in POTENTIAL_TERMS}
        for place, (springs, vector, length) in enumerate(pairs):
            half = 0.5 * (parts[2 * place] - parts[2 * place + 1]).flatten()
            expected, weight = (
                half.new_tensor(array) for array in (springs.force_constants @ vector.flatten(), springs.weight)
            )
            error = torch.linalg.vector_norm(weight @ (half + expected))
            terms["force_constants"].append(error / (length * len(half) ** 0.5))
        for place, number in enumerate(frames, start=2 * len(pairs)):
            frame, size = self.frames[number], self.frames[number].crystal.num_atoms
            terms["energy"].append((energies[place] - self._energies[number]).abs() / size)
            wrong = torch.linalg.vector_norm(parts[place] - parts[place].new_tensor(frame.forces), dim=1)
            sizes = _FORCE_SIZE + wrong.new_tensor(np.linalg.norm(frame.forces, axis=1))
            terms["forces"].append((wrong / sizes).mean())
            if frame.stress is not None:
                volume = float(abs(np.linalg.det(frame.crystal.cell)))
                difference = virials[place] - virials.new_tensor(volume * frame.stress)
                terms["stress"].append(torch.linalg.matrix_norm(difference) / size)
        return {name: torch.stack(values).mean() for name, values in terms.items() if values}

    def _derivatives(self, crystals: Sequence[Crystal]) -> tuple[Tensor, Tensor, Tensor]:
        """Compute energies [B], forces [N, 3] and derivatives by the strain [B, 3, 3], differentiable in weights."""
        encoder = self.model.encoder
        weight = next(encoder.parameters())
        graph = build_graph(crystals, encoder.cutoffs, weight.dtype, weight.device)
        energies, slopes, virials = energy_slopes(self.model, graph, create_graph=True)
        return energies, -slopes, virials


def _springs(crystal: Crystal) -> _Springs:
    labels = LatticeLabels.of(crystal)
    if labels.force_constants is None or labels.weight is None:
        raise DTNNError(f"{crystal.label}: expected force constants and two atoms or more")
    return _Springs(crystal, labels.force_constants.double().numpy(), labels.weight.double().numpy())


def _random_displacement(springs: _Springs, seed: tuple[int, ...]) -> tuple[np.ndarray, float]:
    """Draw u = s W z; returns u [N, 3] and s."""
    direction = springs.weight @ np.random.default_rng(seed).normal(size=len(springs.weight))
    length = _DISPLACEMENT / float(np.sqrt(np.square(direction).mean()))
    return (length * direction).reshape(-1, 3), length

# SPDX-License-Identifier: MIT
"""Training of a `LatticeModel` on force constants, Born charges and ionic tensors; see `TermTrainer`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..crystals.crystal import Crystal
from ..errors import DTNNError
from ..model.lattice_model import LatticeGraph, LatticeModel
from .lattice_loss import TERMS, LatticeLabels, lattice_terms
from .term_trainer import TermSettings, TermTrainer

# Crystals whose latents set the sizes of the decoder's inputs.
_SIZED = 200


@dataclass(frozen=True)
class LatticeSettings(TermSettings):
    """Settings of a training; see `TermSettings` for the others.

    Args:
        born_weight: weight of the Born charges in the loss, where force constants have 1.
        ionic_weight: weight of the ionic tensor.
    """

    born_weight: float = 1.0
    ionic_weight: float = 0.5


class LatticeData:
    """Crystals with their graphs and labels, and the index of their functional.

    Args:
        crystals: crystals that passed `check_crystal`, with force constants, Born charges or ionic tensors.
        model: the model that reads the graphs.

    Raises:
        DTNNError: a crystal has none of these labels, or an unknown functional.
    """

    def __init__(self, crystals: Sequence[Crystal], model: LatticeModel) -> None:
        self.crystals = list(crystals)
        functionals = model.config.functionals
        self.functional: list[int] = []
        for crystal in self.crystals:
            name = crystal.info.get("functional", functionals[0] if functionals else None)
            if functionals and name not in functionals:
                raise DTNNError(f"{crystal.label}: expected a functional of {', '.join(functionals)}, got {name!r}")
            self.functional.append(functionals.index(name) if functionals else 0)
        self.labels = [LatticeLabels.of(crystal) for crystal in self.crystals]
        for crystal, label in zip(self.crystals, self.labels, strict=True):
            if not label.names:
                raise DTNNError(f"{crystal.label}: expected force constants, Born charges or an ionic tensor, got none")
        cutoffs, pair_cutoff = model.encoder.cutoffs, model.config.pair_cutoff
        self.graphs = [LatticeGraph.of(crystal, cutoffs, pair_cutoff, model.dtype) for crystal in self.crystals]

    def __len__(self) -> int:
        return len(self.crystals)

    def batch(
        self, rows: Sequence[int], device: torch.device | str = "cpu"
    ) -> tuple[LatticeGraph, Tensor, list[LatticeLabels]]:
        """Join some crystals on a device; returns their graph, functionals [B] and labels."""
        functional = torch.tensor([self.functional[row] for row in rows], device=device)
        graph = LatticeGraph.join([self.graphs[row] for row in rows]).to(device)
        return graph, functional, [self.labels[row].to(device) for row in rows]


class LatticeTrainer(TermTrainer[LatticeModel]):
    """Training of one model.

    Args:
        model: the model with its initial weights; it is trained in place, on its device.
        data: what it learns from.
        settings: settings.
        folder: folder of the checkpoint, from which training resumes; None writes none.
        set_input_sizes: whether the sizes of the decoder's inputs are measured; a trained model keeps its own.

    Raises:
        DTNNError: there are no crystals.
        BadFileError: the checkpoint is damaged, or belongs to a model with other settings.
    """

    command = "train-lattice"

    def __init__(
        self,
        model: LatticeModel,
        data: LatticeData,
        settings: LatticeSettings,
        folder: Path | None = None,
        *,
        set_input_sizes: bool = True,
    ) -> None:
        if len(data) == 0:
            raise DTNNError("train-lattice: expected crystals with force constants or Born charges, got none")
        self.data = data
        if set_input_sizes:
            self._set_input_sizes(model, settings.seed)
        weights = dict(zip(TERMS, (1.0, settings.born_weight, settings.ionic_weight), strict=True))
        super().__init__(model, len(data), weights, settings, folder)

    def _set_input_sizes(self, model: LatticeModel, seed: int) -> None:
        rows = np.random.RandomState(seed).permutation(len(self.data))[:_SIZED].tolist()
        graph, _, _ = self.data.batch(rows, model.device)
        with torch.no_grad():
            latents = model.encoder(graph.graph, False)
            model.atom_input.set_sizes(latents, graph.graph.atom_weight)

    def terms(self, examples: Sequence[int], epoch: int) -> dict[str, Tensor]:
        """See `TermTrainer.terms` and `lattice_terms`; an example is a crystal."""
        graph, functional, labels = self.data.batch(examples, self.model.device)
        matrices, charges = self.model(graph, functional)
        return lattice_terms(matrices, charges, labels)

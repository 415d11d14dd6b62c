# SPDX-License-Identifier: MIT
"""Labelled crystals that are most like a crystal for a model: nearest in the latent space of its encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch

from ..crystals.crystal import Crystal
from ..datasets.bundled import load_labelled
from ..model.ensemble_model import Ensemble
from ..model.graph_predictor import GraphPredictor
from ..model.predictor import Predictor, mean_permittivity
from ..model.training_set import mean_scalars
from ..nn.graph import crystal_batches


class LabelledNeighbors:
    """The bundled crystals with tensors from DFPT, in the latent space of a model's encoder.

    Of an ensemble of several models, the encoder is the one of the first.

    Args:
        model: a loaded model. Without a training set there is no unit of distances, and no neighbor.
        crystals: the labelled crystals; None for the bundled ones. Those with elements that the model does not know are
            left out.
    """

    def __init__(self, model: Predictor, crystals: Sequence[Crystal] | None = None) -> None:
        self._model = cast(GraphPredictor, model.models[0] if isinstance(model, Ensemble) else model)
        known = model.encoders_with_training_sets()
        self._limit = float(known[0][1].distance_limit) if known else 0.0
        elements = set(model.elements)
        labelled = load_labelled() if crystals is None else crystals
        self._labelled = [c for c in labelled if not elements or elements.issuperset(c.atomic_numbers.tolist())]
        self._latents = self._encode(self._labelled) if self._limit > 0 and self._labelled else None

    def nearest(self, crystals: Sequence[Crystal], count: int) -> list[list[dict[str, Any]]]:
        """Find the labelled crystals that are nearest to crystals.

        Args:
            crystals: crystals that passed `check_crystal`.
            count: number of neighbors.

        Returns:
            For each crystal its neighbors from near to far: id, formula, distance as a multiple of
            `TrainingSet.distance_limit`, and the labelled mean permittivity of each tensor.
        """
        if self._latents is None or not crystals:
            return [[] for _ in crystals]
        latents = self._encode(crystals)
        return [self._describe(np.linalg.norm(self._latents - latent, axis=1), count) for latent in latents]

    def _describe(self, distances: np.ndarray, count: int) -> list[dict[str, Any]]:
        return [
            {
                "id": self._labelled[row].id,
                "formula": self._labelled[row].formula,
                "distance": float(distances[row]) / self._limit,
                "means": {name: float(mean_permittivity(t)) for name, t in self._labelled[row].targets.items()},
            }
            for row in np.argsort(distances, kind="stable")[:count].tolist()
        ]

    def _encode(self, crystals: Sequence[Crystal]) -> np.ndarray:
        """Compute the mean scalar latents of the last layer. [B, C], float64."""
        rows: dict[int, np.ndarray] = {}
        with self._model.evaluating(), torch.inference_mode():
            for batch in crystal_batches(crystals, self._model.default_batch_atoms()):
                graph = self._model.inference_graph([crystals[index] for index in batch])
                means = mean_scalars(self._model.encode(graph).latents, graph.ptr, graph.atom_weight)
                rows.update(zip(batch, means, strict=True))
        return np.stack([rows[index] for index in range(len(crystals))])

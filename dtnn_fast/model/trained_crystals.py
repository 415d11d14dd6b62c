# SPDX-License-Identifier: MIT
"""Whether a model was trained on a crystal, judged by formula and by the latents of the training crystals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from ..crystals.crystal import Crystal
from ..nn.graph import build_graph, crystal_batches
from .ensemble_model import Ensemble
from .predictor import Predictor
from .training_set import TrainingSet, mean_scalars

# Two calculations of the same crystal differ in its volume. Of 294 calculations in other data sets of crystals that the
# bundled model was trained on, 95 % count as known with this change (76 % with 0.05, 99 % with 0.12), and of 196
# polymorphs of its training crystals 70 %.
VOLUME_CHANGE = 0.08


def trained_on(model: Predictor, crystals: Sequence[Crystal]) -> np.ndarray | None:
    """Decide for crystals whether a model was trained on them, or on a polymorph with nearly the same surroundings.

    A crystal counts as known if a training crystal of the same formula is nearer in the latent space of the encoder
    than the crystal itself with its volume changed by 8 %. This holds for all training crystals, for most other
    calculations of them, and for polymorphs that differ little, such as zincblende and wurtzite.

    Args:
        model: a model that knows its training set.
        crystals: crystals that passed `check_crystal` with the elements of the model.

    Returns:
        [B], bool: whether it holds for any of the model's encoders. None if the training set of a model, or its
        formulas, are not known, as for models of version 0.1.0.
    """
    encoders = model.encoders_with_training_sets()
    num_models = len(model.models) if isinstance(model, Ensemble) else 1
    if len(encoders) < num_models or any(training_set.formulas is None for _, training_set in encoders):
        return None
    known = np.zeros(len(crystals), dtype=bool)
    with model.evaluating(), torch.inference_mode():
        for encoder, training_set in encoders:
            known |= _known_to(encoder, training_set, crystals, model.default_batch_atoms())
    return known


def _known_to(
    encoder: nn.Module, training_set: TrainingSet, crystals: Sequence[Crystal], batch_atoms: int
) -> np.ndarray:
    known = np.zeros(len(crystals), dtype=bool)
    # Others have no training crystal of their formula.
    formulas = set(training_set.formulas or ())
    candidates = [place for place, crystal in enumerate(crystals) if crystal.formula in formulas]
    for indices in crystal_batches([crystals[place] for place in candidates], batch_atoms):
        places = [candidates[index] for index in indices]
        batch = [crystals[place] for place in places]
        latents = _latents(encoder, batch)
        moved = [
            _latents(encoder, [_scaled(c, 1.0 + change) for c in batch]) for change in (-VOLUME_CHANGE, VOLUME_CHANGE)
        ]
        reach = np.linalg.norm(np.stack(moved) - latents, axis=-1).max(0)
        distances = [
            training_set.distances_of_formula(crystal.formula, place[None])[0]
            for crystal, place in zip(batch, latents, strict=True)
        ]
        known[places] = np.array(distances) <= reach
    return known


def _latents(encoder: nn.Module, crystals: Sequence[Crystal]) -> np.ndarray:
    """Compute where crystals are in the latent space, see `mean_scalars`. [B, C], float64."""
    parameter = next(encoder.parameters())
    cutoffs: Sequence[float] = encoder.cutoffs  # type: ignore[assignment]
    graph = build_graph(crystals, cutoffs, parameter.dtype, parameter.device)
    return mean_scalars(encoder(graph), graph.ptr)


def _scaled(crystal: Crystal, volume: float) -> Crystal:
    """Scale a crystal to a multiple of its volume."""
    length = volume ** (1.0 / 3.0)
    return replace(crystal, positions=length * crystal.positions, cell=length * crystal.cell, operations=None)

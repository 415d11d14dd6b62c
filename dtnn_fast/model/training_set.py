# SPDX-License-Identifier: MIT
"""What a model learned from: number of training crystals by element, and their places in the encoder's latent space."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..crystals.crystal import Crystal
from ..crystals.elements import SYMBOLS, atomic_number
from ..errors import BadFileError
from ..nn.latents import Latents
from ..nn.saved_folder import read_settings, write_settings

FORMAT = "dtnn_fast training_set 1"
SETTINGS_FILE, LATENTS_FILE = "training_set.json", "training_latents.safetensors"
# Points whose distances are computed together.
_SEARCHED = 256
# Share of the training crystals that are nearer to another training crystal than `distance_limit`.
_NEAR = 0.99


@dataclass(frozen=True)
class TrainingSet:
    """What a model learned from, as far as it is needed to say whether the model knows a crystal.

    Args:
        element_counts: number of training crystals that contain an element, by atomic number.
        latents: mean over the atoms of the last layer's scalar latents, for each training crystal. [n, C], float16.
        distance_limit: 99 % of the training crystals are nearer than this to another training crystal. Euclidean
            distance of `latents`.
        formulas: reduced formula of each training crystal, in the order of `latents`; None for models of version 0.1.0.
            [n].
    """

    element_counts: Mapping[int, int]
    latents: np.ndarray
    distance_limit: float
    formulas: tuple[str, ...] | None = None

    @classmethod
    def of(cls, crystals: Sequence[Crystal], latents: np.ndarray) -> TrainingSet:
        """Describe a training set.

        Args:
            crystals: the training crystals.
            latents: of each crystal, see `mean_scalars`. [n, C].
        """
        counts: dict[int, int] = {}
        for crystal in crystals:
            for z in np.unique(crystal.atomic_numbers).tolist():
                counts[z] = counts.get(z, 0) + 1
        kept = latents.astype(np.float16)
        distances = _Points(kept).nearest(kept, are_these=True)
        limit = float(np.quantile(distances, _NEAR)) if len(kept) > 1 else np.inf
        return cls(dict(sorted(counts.items())), kept, limit, tuple(crystal.formula for crystal in crystals))

    @classmethod
    def join(cls, sets: Sequence[TrainingSet]) -> TrainingSet:
        """Join the training sets of models that share an encoder, which may overlap.

        Each count is that of the set with most crystals of the element, and the limit is the largest. Formulas are
        known if every set knows its own.

        Args:
            sets: at least one.
        """
        counts: dict[int, int] = {}
        for training_set in sets:
            for z, count in training_set.element_counts.items():
                counts[z] = max(count, counts.get(z, 0))
        joined = np.concatenate([training_set.latents for training_set in sets])
        latents, kept = np.unique(joined, axis=0, return_index=True)
        limit = max(training_set.distance_limit for training_set in sets)
        known = [training_set.formulas for training_set in sets if training_set.formulas is not None]
        every = [formula for formulas in known for formula in formulas]
        formulas = tuple(every[row] for row in kept.tolist()) if len(known) == len(sets) else None
        return cls(dict(sorted(counts.items())), latents, limit, formulas)

    def distances_of_formula(self, formula: str, latents: np.ndarray) -> np.ndarray:
        """Compute the distances to the nearest training crystal of a formula. [B, C] -> [B], infinite without any.

        Raises:
            ValueError: the formulas are not known.
        """
        if self.formulas is None:
            raise ValueError("TrainingSet: expected known `formulas`, got None")
        same = [row for row, known in enumerate(self.formulas) if known == formula]
        if not same:
            return np.full(len(latents), np.inf)
        return _Points(self.latents[same]).nearest(latents)

    @cached_property
    def _points(self) -> _Points:
        return _Points(self.latents)

    def relative_distances(self, latents: np.ndarray) -> np.ndarray:
        """Compute the distances to the nearest training crystal, over `distance_limit`. [B, C] -> [B]."""
        if not self.distance_limit > 0:
            return np.zeros(len(latents))
        return self._points.nearest(latents) / self.distance_limit


def save_training_set(training_set: TrainingSet | None, folder: Path) -> None:
    """Write training_set.json and training_latents.safetensors into an existing folder, or remove them for None."""
    if training_set is None:
        for name in (SETTINGS_FILE, LATENTS_FILE):
            (folder / name).unlink(missing_ok=True)
        return
    settings = {
        "crystals": len(training_set.latents),
        "distance_limit": training_set.distance_limit,
        "elements": {SYMBOLS[z]: count for z, count in training_set.element_counts.items()},
    }
    if training_set.formulas is not None:
        settings["formulas"] = " ".join(training_set.formulas)
    save_file({"latents": torch.from_numpy(training_set.latents)}, folder / LATENTS_FILE, metadata={"format": FORMAT})
    write_settings(folder / SETTINGS_FILE, FORMAT, settings)


def load_training_set(folder: Path) -> TrainingSet | None:
    """Read what `save_training_set` wrote; None where the folder has no training_set.json.

    Raises:
        BadFileError: a file is damaged, or the latents are missing.
    """
    path = folder / SETTINGS_FILE
    if not path.exists():
        return None
    try:
        latents = load_file(folder / LATENTS_FILE)["latents"].numpy()
    except (SafetensorError, OSError, KeyError) as error:
        raise BadFileError(f"{folder / LATENTS_FILE}: missing or damaged: {error}") from error
    if latents.ndim != 2 or len(latents) == 0 or not np.isfinite(latents).all():
        raise BadFileError(f"{folder / LATENTS_FILE}: expected finite `latents` of shape [n, C]")

    def parse(settings: dict[str, Any]) -> TrainingSet:
        elements, limit = settings.get("elements"), settings.get("distance_limit")
        if not isinstance(elements, dict) or not isinstance(limit, int | float):
            raise ValueError("expected an object `elements` and a number `distance_limit`")
        if not all(isinstance(count, int) for count in elements.values()):
            raise ValueError(f"expected numbers of crystals as `elements`, got {elements}")
        counts = {atomic_number(symbol): count for symbol, count in elements.items()}
        formulas = settings.get("formulas")
        if formulas is None:
            return TrainingSet(counts, latents, float(limit))
        if not isinstance(formulas, str) or len(formulas.split()) != len(latents):
            raise ValueError(f"expected a text `formulas` of {len(latents)} formulas, one for each training crystal")
        return TrainingSet(counts, latents, float(limit), tuple(formulas.split()))

    return read_settings(path, FORMAT, parse)


def mean_scalars(latents: Sequence[Latents | None], ptr: Tensor, atom_weight: Tensor | None = None) -> np.ndarray:
    """Average the last layer's scalar latents over the atoms of each crystal.

    Args:
        latents: of an encoder.
        ptr: crystal b owns the atoms ``ptr[b]:ptr[b + 1]``. [B+1], int64.
        atom_weight: see `CrystalGraph`; None where every atom counts the same. [N].

    Returns:
        [B, C], float64.

    Raises:
        ValueError: the last layer was not kept.
    """
    if latents[-1] is None:
        raise ValueError("mean_scalars: expected the latents of the last layer, got None")
    scalars = latents[-1].atom_scalar.detach().double()
    sizes = ptr.diff()
    crystal = torch.repeat_interleave(torch.arange(len(sizes), device=ptr.device), sizes)
    weight = scalars.new_ones(len(scalars)) if atom_weight is None else atom_weight.double()
    sums = scalars.new_zeros(len(sizes), scalars.shape[1]).index_add_(0, crystal, weight.unsqueeze(1) * scalars)
    total = scalars.new_zeros(len(sizes)).index_add_(0, crystal, weight)
    means: np.ndarray = (sums / total.unsqueeze(1)).cpu().numpy()
    return means


class TrainingDistances:
    """Context in which the latents of encoders are caught on their way, so that no encoder runs twice.

    Args:
        encoders: each with the training set of its model.

    Example:
        >>> with TrainingDistances(model.encoders_with_training_sets()) as distances:
        ...     model.predict_batch(crystals)
        >>> distances.relative()  # above 1 for crystals that are unlike all training crystals
    """

    def __init__(self, encoders: Iterable[tuple[nn.Module, TrainingSet]]) -> None:
        self._encoders = list(encoders)
        self._found: list[np.ndarray] = []
        self._hooks: list[Any] = []

    def __enter__(self) -> Self:
        for encoder, training_set in self._encoders:

            def catch(
                module: nn.Module, inputs: tuple[Any, ...], latents: Any, training_set: TrainingSet = training_set
            ) -> None:
                self._found.append(
                    training_set.relative_distances(mean_scalars(latents, inputs[0].ptr, inputs[0].atom_weight))
                )

            self._hooks.append(encoder.register_forward_hook(catch))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def relative(self) -> np.ndarray | None:
        """Return the distance to the nearest training crystal over the limit, mean over the encoders.

        Returns:
            For the crystals of the batch that was predicted, [B]; None without training sets.
        """
        if not self._found:
            return None
        mean: np.ndarray = np.mean(self._found, axis=0)
        return mean


class _Points:
    """Points among which nearest ones are searched: in float32, a few hundred at a time; distances are in float64.

    Args:
        points: [n, C].
    """

    def __init__(self, points: np.ndarray) -> None:
        self.points = points
        # Around their mean, float32 keeps the digits of the differences.
        self.center = points.mean(0, dtype=np.float64) if len(points) else np.zeros(points.shape[1:])
        self.centered = (points - self.center).astype(np.float32)
        self.squares = np.square(self.centered).sum(1)

    def nearest(self, others: np.ndarray, are_these: bool = False) -> np.ndarray:
        """Compute Euclidean distances to the nearest point.

        Args:
            others: [B, C].
            are_these: whether they are the points themselves, which are not their own neighbors.

        Returns:
            [B], infinite where there is no point.
        """
        distances = np.full(len(others), np.inf)
        if len(self.points) <= int(are_these):
            return distances
        for start in range(0, len(others), _SEARCHED):
            part = others[start : start + _SEARCHED].astype(np.float64)
            products = (part - self.center).astype(np.float32) @ self.centered.T
            squares = self.squares - 2.0 * products
            if are_these:
                rows = np.arange(len(part))
                squares[rows, start + rows] = np.inf
            found = self.points[squares.argmin(1)].astype(np.float64)
            distances[start : start + _SEARCHED] = np.sqrt(np.square(part - found).sum(1))
        return distances

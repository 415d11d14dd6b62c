# SPDX-License-Identifier: MIT
"""Models on different encoders as one ensemble."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
from torch import nn

from ..crystals.crystal import Crystal
from ..encoders.latent_cache import encoder_digest
from ..errors import BadFileError
from ..files import read_json_object
from .dtnn import DTNN, member_name
from .predictor import Predictor
from .storage import ENSEMBLE_FILE, load_model


class MixedEnsemble(Predictor):
    """The mean over the members of several models, each with an encoder of its own.

    Models on different encoders err less alike than those that differ in their random numbers (docs/results.md).

    Args:
        models: at least two, each single or an ensemble; every member counts the same.
        error_scales: for each target, the factor that turns the spread of all members into an error bar; see
            `dtnn_fast.training.member_predictions`.

    Raises:
        ValueError: there are fewer than two models, they predict different targets, no element is known to all, or
            `error_scales` are not those of the targets.

    Example:
        >>> ensemble = MixedEnsemble.from_pretrained("runs/mixed/split-0/model")
        >>> tensors, errors = ensemble.predict_with_errors(structures, "total")
    """

    def __init__(self, models: Sequence[DTNN], error_scales: Mapping[str, float] | None = None) -> None:
        super().__init__()
        if len(models) < 2:
            raise ValueError(f"MixedEnsemble: expected two models or more, got {len(models)}")
        targets = models[0].targets
        for place, model in enumerate(models):
            if set(model.targets) != set(targets):
                raise ValueError(
                    f"MixedEnsemble: expected models of {', '.join(targets)}, model {place} predicts "
                    f"{', '.join(model.targets)}"
                )
        known = [set(model.elements) for model in models if model.elements]
        common = set.intersection(*known) if known else set()
        if known and not common:
            raise ValueError("MixedEnsemble: expected models with elements in common, got none that all of them know")
        if error_scales and set(error_scales) != set(targets):
            raise ValueError(
                f"MixedEnsemble: expected `error_scales` for {', '.join(targets)}, got {', '.join(error_scales)}"
            )
        if error_scales and not all(scale >= 0 for scale in error_scales.values()):
            raise ValueError(f"MixedEnsemble: expected `error_scales` of 0 or more, got {dict(error_scales)}")
        self.models = nn.ModuleList(models)
        self._targets, self._elements = targets, tuple(sorted(common))
        self._error_scales = tuple(error_scales[target] for target in targets) if error_scales else ()

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> MixedEnsemble:
        """Load an ensemble that `save` wrote, in evaluation mode.

        Raises:
            BadFileError: the folder holds none, or a damaged one.
        """

        return load_mixed(Path(folder))

    def save(self, folder: str | Path) -> None:
        """Write ensemble.json into a folder, which is made when absent, and each model into a folder in it."""

        save_mixed(self, Path(folder))

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the tensors that are predicted."""
        return self._targets

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that every model knows; empty means all."""
        return self._elements

    @property
    def error_scales(self) -> tuple[float, ...]:
        """For each target, the factor that makes an error bar of the members' spread; empty for none."""
        return self._error_scales

    def predict_members(self, crystals: Sequence[Crystal]) -> dict[str, np.ndarray]:
        """See `Predictor.predict_members`; the members of one model stand together."""
        parts = [cast(DTNN, model).predict_members(crystals) for model in self.models]
        return {target: np.concatenate([part[target] for part in parts]) for target in self.targets}


def combine(models: Sequence[DTNN], error_scales: Mapping[str, float] | None = None) -> DTNN:
    """Make an ensemble, whose encoder runs once for all members.

    Args:
        models: single models with the same settings and the same encoder, at least one.
        error_scales: for each target, the factor that turns the spread of the members into an error bar; see
            `dtnn_fast.training.member_predictions`.

    Returns:
        A model whose tensors are the means over the members, in evaluation mode; it shares their parameters.

    Raises:
        ValueError: the models differ in more than the weights of their decoders.
    """
    if not models:
        raise ValueError("combine: expected at least one model, got none")
    first = models[0]
    digest = encoder_digest(first.encoder)
    for place, model in enumerate(models):
        if model.config != first.config or model.config.members != 1 or model.dtype != first.dtype:
            raise ValueError(f"combine: expected single models of the same settings, model {place} has others")
        if encoder_digest(model.encoder) != digest:
            raise ValueError(f"combine: expected models on one encoder, that of model {place} has other weights")
    scales = tuple(error_scales[target] for target in first.config.targets) if error_scales else ()
    config = replace(first.config, members=len(models), error_scales=scales)
    decoders = {
        member_name(name, place): decoder
        for place, model in enumerate(models)
        for name, decoder in model.decoders.items()
    }
    return DTNN.of_parts(config, first.encoder, decoders).eval()


FORMAT = "dtnn_fast ensemble 1"


def load_predictor(name: str | Path) -> Predictor:
    """Load what was saved under a name: a bundled model, a model, or an ensemble of models.

    Args:
        name: as for `DTNN.from_pretrained`, or the folder of a `MixedEnsemble`.

    Raises:
        BadFileError: there is nothing that can be loaded.
    """
    folder = Path(name)
    return load_mixed(folder) if (folder / ENSEMBLE_FILE).is_file() else load_model(name)


def save_mixed(ensemble: MixedEnsemble, folder: Path) -> None:
    """See `MixedEnsemble.save`."""
    folder.mkdir(parents=True, exist_ok=True)
    for place, model in enumerate(ensemble.models):
        cast(DTNN, model).save(folder / str(place))
    record = {
        "format": FORMAT,
        "models": len(ensemble.models),
        "error_scales": dict(zip(ensemble.targets, ensemble.error_scales, strict=False)),
    }
    # Last, since this file says that the ensemble is whole.
    (folder / ENSEMBLE_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def load_mixed(folder: Path) -> MixedEnsemble:
    """See `MixedEnsemble.from_pretrained`."""
    path = folder / ENSEMBLE_FILE
    record = read_json_object(path)
    found = record.get("format")
    if found != FORMAT:
        raise BadFileError(f"{path}: expected the format {FORMAT!r}, got {found!r}")
    count, scales = record.get("models"), record.get("error_scales")
    if not isinstance(count, int) or not isinstance(scales, dict):
        raise BadFileError(f"{path}: expected a number of `models` and an object `error_scales`")
    if not all(isinstance(scale, int | float) for scale in scales.values()):
        raise BadFileError(f"{path}: expected numbers as `error_scales`, got {scales}")
    models = [load_model(folder / str(place)) for place in range(count)]
    try:
        return MixedEnsemble(models, scales).eval()
    except ValueError as error:
        raise BadFileError(f"{path}: {error}") from error

# SPDX-License-Identifier: MIT
"""Ensembles: the mean of several members, with error bars from their spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from torch import nn

from ..crystals.crystal import Crystal
from ..encoders.latent_cache import encoder_digest
from ..nn.saved_folder import read_settings, write_settings
from ..typed_settings import from_plain
from .dtnn import DTNN, ENSEMBLE_FILE, decoder_key
from .error_calibration import ErrorCalibration, calibrations_to_json
from .functionals import check_functional
from .predictor import Predictor
from .training_set import TrainingSet

FORMAT = "dtnn_fast ensemble 1"

T = TypeVar("T")


class Ensemble(Predictor):
    """The mean of members on different encoders.

    A *member* is one encoder with one decoder per target. All members have equal weight: the prediction is the mean
    over the members, and their spread gives the error bar. Members that share an encoder are kept in one `DTNN`
    (`DTNNConfig.members`, `join_members`), so that the encoder runs once for all of them. An `Ensemble` holds several
    such models, each on its own encoder: their errors are less correlated than those of members on one encoder
    (docs/results.md).

    Args:
        models: at least two, each with one member or several.
        error_scales: for each target, a factor that turns the spread of all members into the error bar of a tensor,
            without a calibration by size.
        mean_error_scales: the same for the mean, a third of the trace.
        tensor_calibrations: for each target, the error bar of a tensor, in place of `error_scales`; see
            `dtnn_fast.training.error_bars`.
        mean_calibrations: the same for the mean, in place of `mean_error_scales`.

    Raises:
        ValueError: there are fewer than two models, they predict different targets, no element is known to all, or
            the factors or calibrations are not those of the targets.

    Example:
        >>> ensemble = Ensemble.from_pretrained("runs/two-encoders/split-0/model")
        >>> tensors, errors = ensemble.predict_with_errors(structures, "total")
    """

    def __init__(
        self,
        models: Sequence[DTNN],
        error_scales: Mapping[str, float] | None = None,
        mean_error_scales: Mapping[str, float] | None = None,
        tensor_calibrations: Mapping[str, ErrorCalibration] | None = None,
        mean_calibrations: Mapping[str, ErrorCalibration] | None = None,
    ) -> None:
        super().__init__()
        if len(models) < 2:
            raise ValueError(f"Ensemble: expected two models or more, got {len(models)}")
        targets = models[0].targets
        for index, model in enumerate(models):
            if set(model.targets) != set(targets):
                raise ValueError(
                    f"Ensemble: expected models of {', '.join(targets)}, model {index} predicts "
                    f"{', '.join(model.targets)}"
                )
        known = [set(model.elements) for model in models if model.elements]
        common = set.intersection(*known) if known else set()
        if known and not common:
            raise ValueError("Ensemble: expected models with elements in common, got no element that all of them know")
        functionals = {model.functional for model in models if model.functional}
        if len(functionals) > 1:
            raise ValueError(f"Ensemble: expected models of one functional, got {', '.join(sorted(functionals))}")
        self.models = nn.ModuleList(models)
        self._targets, self._elements = targets, tuple(sorted(common))
        self._error_scales = _checked_scales("error_scales", error_scales, targets)
        self._mean_error_scales = _checked_scales("mean_error_scales", mean_error_scales, targets)
        self._tensor_calibrations = _in_order("tensor_calibrations", tensor_calibrations, targets)
        self._mean_calibrations = _in_order("mean_calibrations", mean_calibrations, targets)
        if (error_scales and tensor_calibrations) or (mean_error_scales and mean_calibrations):
            raise ValueError("Ensemble: expected factors or calibrations of the same error bars, got both")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Ensemble:
        """Load an ensemble that `save` wrote, in evaluation mode.

        Raises:
            BadFileError: the folder holds no ensemble, or a damaged one.
        """
        root = Path(folder)

        def load(record: dict[str, Any]) -> Ensemble:
            num_models, scales = record.get("models"), record.get("error_scales")
            # Version 0.1.0 had no error bars of means.
            mean_scales = record.get("mean_error_scales", {})
            if not isinstance(num_models, int) or not isinstance(scales, dict) or not isinstance(mean_scales, dict):
                raise ValueError(
                    "expected a number of `models`, an object `error_scales`, and an object `mean_error_scales` or none"
                )
            for name, factors in (("error_scales", scales), ("mean_error_scales", mean_scales)):
                if not all(isinstance(factor, int | float) for factor in factors.values()):
                    raise ValueError(f"expected numbers as `{name}`, got {factors}")
            calibrations = {name: _read_calibrations(name, record.get(name, {})) for name in _CALIBRATIONS}
            models = [DTNN.from_pretrained(root / str(index)) for index in range(num_models)]
            return cls(models, scales, mean_scales, **calibrations)

        return read_settings(root / ENSEMBLE_FILE, FORMAT, load).eval()

    def save(self, folder: str | Path) -> None:
        """Write each model into a subfolder 0, 1, ..., and ensemble.json beside them; create missing folders."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for index, model in enumerate(self.models):
            cast(DTNN, model).save(folder / str(index))
        settings = {
            "models": len(self.models),
            "error_scales": dict(zip(self.targets, self.error_scales, strict=False)),
            "mean_error_scales": dict(zip(self.targets, self.mean_error_scales, strict=False)),
            "tensor_calibrations": calibrations_to_json(self.targets, self._tensor_calibrations),
            "mean_calibrations": calibrations_to_json(self.targets, self._mean_calibrations),
        }
        # Last, since this file says that the ensemble is whole.
        write_settings(folder / ENSEMBLE_FILE, FORMAT, settings)

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the tensors that are predicted."""
        return self._targets

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that every model knows; empty means all."""
        return self._elements

    @property
    def functionals(self) -> tuple[str, ...]:
        """See `Predictor.functionals`; those that all models know."""
        known = [cast(DTNN, model).functionals for model in self.models]
        return tuple(name for name in known[0] if all(name in names for names in known))

    @property
    def functional(self) -> str:
        """See `Predictor.functional`."""
        return cast(DTNN, self.models[0]).functional if self.functionals else ""

    def with_functional(self, name: str) -> Ensemble:
        """See `Predictor.with_functional`."""
        check_functional(name, self.functionals, "Ensemble")
        # The models may have different first ones.
        name = name or (self.functionals[0] if self.functionals else "")
        models = [cast(DTNN, model).with_functional(name) for model in self.models]

        def by_target(values: tuple[T, ...]) -> dict[str, T]:
            return dict(zip(self.targets, values, strict=False))

        return Ensemble(
            models,
            by_target(self._error_scales),
            by_target(self._mean_error_scales),
            by_target(self._tensor_calibrations),
            by_target(self._mean_calibrations),
        ).train(self.training)

    @property
    def error_scales(self) -> tuple[float, ...]:
        """See `Predictor.error_scales`."""
        return self._error_scales

    @property
    def mean_error_scales(self) -> tuple[float, ...]:
        """See `Predictor.mean_error_scales`."""
        return self._mean_error_scales

    @property
    def tensor_calibrations(self) -> tuple[ErrorCalibration, ...]:
        """See `Predictor.tensor_calibrations`."""
        return self._tensor_calibrations or super().tensor_calibrations

    @property
    def mean_calibrations(self) -> tuple[ErrorCalibration, ...]:
        """See `Predictor.mean_calibrations`."""
        return self._mean_calibrations or super().mean_calibrations

    @property
    def bond_cutoff(self) -> float:
        """See `Predictor.bond_cutoff`; the longest of all models."""
        return max(cast(DTNN, model).bond_cutoff for model in self.models)

    @property
    def uses_operations(self) -> bool:
        """See `Predictor.uses_operations`."""
        return any(cast(DTNN, model).uses_operations for model in self.models)

    def encoders_with_training_sets(self) -> list[tuple[nn.Module, TrainingSet]]:
        """See `Predictor.encoders_with_training_sets`."""
        return [pair for model in self.models for pair in cast(DTNN, model).encoders_with_training_sets()]

    def predict_members(self, crystals: Sequence[Crystal]) -> dict[str, np.ndarray]:
        """See `Predictor.predict_members`; the members of one model are adjacent."""
        return self._join([cast(DTNN, model).predict_members(crystals) for model in self.models])

    @property
    def has_born_charges(self) -> bool:
        """Whether all models predict Born effective charges; those of the ensemble are the mean over the models."""
        return all(cast(DTNN, model).has_born_charges for model in self.models)

    def predict_batch_charges(self, crystals: Sequence[Crystal]) -> list[np.ndarray]:
        """See `Predictor.predict_batch_charges`; the mean over the models, each of which has one readout."""
        return _mean_charges([cast(DTNN, model).predict_batch_charges(crystals) for model in self.models])

    def predict_members_and_charges(
        self, crystals: Sequence[Crystal]
    ) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
        """See `Predictor.predict_members_and_charges`."""
        by_model = [cast(DTNN, model).predict_members_and_charges(crystals) for model in self.models]
        return self._join([members for members, _ in by_model]), _mean_charges([charges for _, charges in by_model])

    def _join(self, by_model: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        return {target: np.concatenate([tensors[target] for tensors in by_model]) for target in self.targets}


def _mean_charges(by_model: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
    return [np.mean(of_crystal, axis=0) for of_crystal in zip(*by_model, strict=True)]


_CALIBRATIONS = ("tensor_calibrations", "mean_calibrations")


def _read_calibrations(name: str, values: Any) -> dict[str, ErrorCalibration]:
    if not isinstance(values, dict):
        raise ValueError(f"expected an object `{name}` or none, got {values!r}")
    return {target: from_plain(ErrorCalibration, value, f"{name}.{target}") for target, value in values.items()}


def _in_order(name: str, values: Mapping[str, T] | None, targets: Sequence[str]) -> tuple[T, ...]:
    """Return factors or calibrations of error bars in the order of the targets; empty for none."""
    if not values:
        return ()
    if set(values) != set(targets):
        raise ValueError(f"Ensemble: expected `{name}` for {', '.join(targets)}, got {', '.join(values)}")
    return tuple(values[target] for target in targets)


def _checked_scales(name: str, scales: Mapping[str, float] | None, targets: Sequence[str]) -> tuple[float, ...]:
    if scales and not all(scale >= 0 for scale in scales.values()):
        raise ValueError(f"Ensemble: expected `{name}` of 0 or more, got {dict(scales)}")
    return _in_order(name, scales, targets)


def join_members(
    models: Sequence[DTNN],
    tensor_calibrations: Mapping[str, ErrorCalibration] | None = None,
    mean_calibrations: Mapping[str, ErrorCalibration] | None = None,
) -> DTNN:
    """Join members that have the same encoder into one model, whose encoder runs once for all of them.

    Args:
        models: at least one, each with one member, with the same settings and the same encoder.
        tensor_calibrations: for each target, the error bar of a tensor; None for no error bars. See `Ensemble`.
        mean_calibrations: the same for the mean.

    Returns:
        The joined model, in evaluation mode; it shares the parameters of `models`.

    Raises:
        ValueError: the models differ in more than the weights of their decoders.
    """
    if not models:
        raise ValueError("join_members: expected at least one model, got none")
    first = models[0]
    digest = encoder_digest(first.encoder)
    for index, model in enumerate(models):
        if model.config != first.config or model.config.members != 1 or model.dtype != first.dtype:
            raise ValueError(
                f"join_members: expected models of one member with the same settings, model {index} has others"
            )
        if encoder_digest(model.encoder) != digest:
            raise ValueError(f"join_members: expected the same encoder, that of model {index} has other weights")
    targets = first.config.targets
    config = replace(
        first.config,
        members=len(models),
        tensor_calibrations=_in_order("tensor_calibrations", tensor_calibrations, targets),
        mean_calibrations=_in_order("mean_calibrations", mean_calibrations, targets),
    )
    decoders = {
        decoder_key(name, member): decoder
        for member, model in enumerate(models)
        for name, decoder in model.decoders.items()
    }
    joined = DTNN.from_modules(config, first.encoder, decoders, like=first).eval()
    training_sets = [model.training_set for model in models if model.training_set is not None]
    joined.training_set = TrainingSet.join(training_sets) if training_sets else None
    return joined

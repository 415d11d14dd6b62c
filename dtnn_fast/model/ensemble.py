# SPDX-License-Identifier: MIT
"""Models on different encoders as one ensemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
from torch import nn

from ..crystals.crystal import Crystal
from .dtnn import DTNN
from .predictor import Predictor


class MixedEnsemble(Predictor):
    """The mean over the members of several models, each with an encoder of its own.

    Models on different encoders err less alike than those that differ in their random numbers (docs/results.md).

    Args:
        models: at least two, each single or an ensemble; every member counts the same.
        error_scales: for each target, the factor that turns the spread of all members into an error bar; see
            `dtnn_fast.training.error_bars`.

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
        from .ensemble_storage import load_mixed  # noqa: PLC0415  storage needs this class

        return load_mixed(Path(folder))

    def save(self, folder: str | Path) -> None:
        """Write ensemble.json into a folder, which is made when absent, and each model into a folder in it."""
        from .ensemble_storage import save_mixed  # noqa: PLC0415  storage needs this class

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

# SPDX-License-Identifier: MIT
"""Evaluation of some runs: the checked runs, their models and errors, from which tables and figures are made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..crystals.crystal import Rejected
from ..errors import DTNNError
from .comparison import (
    Model,
    ModelErrors,
    Ratio,
    best_model,
    by_layer,
    chosen_layers,
    compare,
    group_runs,
    median_model,
    missing_splits,
    ratios_to_best_baseline,
)
from .runs import DataSet, Run, check_runs

TARGETS = ("electronic", "ionic", "total")


@dataclass(frozen=True)
class Evaluation:
    """Content of the tables and figures.

    Args:
        data: the data set that all runs used.
        runs: runs that are compared.
        models: compared models, with a separate model for each encoder layer.
        errors: errors of each model and target, with the layer that validation chose; also of the training set's
            median.
        ablations: errors by encoder layer of the models that were trained on several layers, by the model's name.
        ratios: ratios of our models to the best baseline.
        rejected: runs that could not be used, and models that lack splits.
    """

    data: DataSet
    runs: Sequence[Run]
    models: Sequence[Model]
    errors: Sequence[ModelErrors]
    ablations: dict[str, list[ModelErrors]]
    ratios: Sequence[Ratio]
    rejected: Sequence[Rejected]

    @property
    def targets(self) -> list[str]:
        """The targets of the runs."""
        return targets_of(self.runs)

    def models_in_detail(self, name: str | None = None) -> list[ModelErrors]:
        """Select for each target the model whose details the figures show.

        Args:
            name: name of the model; None selects our model with the lowest validation error.

        Raises:
            DTNNError: no model has this name.
        """
        candidates = [model for model in self.errors if name is None or model.name == name]
        selected = [best_model(candidates, target) for target in self.targets]
        if not any(selected):
            names = ", ".join(dict.fromkeys(run.model for run in self.runs))
            raise DTNNError(f"evaluate: expected the model to show to be one of {names}, got {name!r}")
        return [model for model in selected if model is not None]

    def model_of(self, errors: ModelErrors) -> Model:
        """Return the model, with its runs, that has these errors."""
        wanted = (errors.name, errors.target, errors.layer)
        return next(model for model in self.models if (model.name, model.target, model.layer) == wanted)


def targets_of(runs: Iterable[Run]) -> list[str]:
    """List the targets of some runs."""
    targets = {target for run in runs for target in run.predictions.expected}
    return [target for target in TARGETS if target in targets]


def evaluate(runs: Sequence[Run], data: DataSet, unreadable: Sequence[Rejected] = ()) -> Evaluation:
    """Compare runs that were trained and tested on the same crystals.

    Args:
        runs: in the order in which the models are to be listed.
        data: the data set.
        unreadable: run folders that could not be read, which are listed as rejected.

    Raises:
        DTNNError: no run can be used.
    """
    usable, unusable = check_runs(runs, data)
    if not usable:
        first = [*unreadable, *unusable][0]
        raise DTNNError(f"evaluate: no run can be used: {first.source}: {first.reason}")
    models, ungrouped = group_runs(usable)
    errors = chosen_layers(compare(models, data))
    for target in targets_of(usable):
        seeds = sorted({seed for model in models if model.target == target for seed in model.runs})
        errors.append(median_model(target, seeds, data))
    rejected = [*unreadable, *unusable, *ungrouped, *missing_splits(models)]
    ratios = ratios_to_best_baseline(errors)
    return Evaluation(data, usable, models, errors, by_layer(models, data), ratios, rejected)

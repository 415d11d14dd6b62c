# SPDX-License-Identifier: MIT
"""Everything that is known of some runs together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..crystals.crystal import Rejected
from ..errors import DTNNError
from .comparison import (
    ModelErrors,
    Ratio,
    by_layer,
    chosen_layers,
    compare,
    median_model,
    ratios_to_best_baseline,
    shown_model,
)
from .runs import DataSet, Model, Run, check_runs, group_runs, missing_splits

TARGETS = ("electronic", "ionic", "total")


@dataclass(frozen=True)
class Evaluation:
    """What the tables and figures are made of.

    Args:
        data: the data set that all runs used.
        runs: that are compared.
        models: all of them, each encoder layer on its own.
        errors: of each model and target, with the layer that validation chose; and of the median of the training set.
        ablations: by model, the errors of the layers of those that were trained on several.
        ratios: of our models to the best baseline.
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
        """Those of the models."""
        return targets_of(self.runs)

    def shown(self, name: str | None = None) -> list[ModelErrors]:
        """For each target the model of which figures show details.

        Args:
            name: of the model; None takes the one of ours with the lowest validation error.

        Raises:
            DTNNError: there is no such model.
        """
        able = [model for model in self.errors if name is None or model.name == name]
        found = [model for model in (shown_model(able, target) for target in self.targets) if model is not None]
        if not found:
            names = ", ".join(dict.fromkeys(run.model for run in self.runs))
            raise DTNNError(f"evaluate: expected the model to show to be one of {names}, got {name!r}")
        return found

    def model(self, errors: ModelErrors) -> Model:
        """The runs behind some errors."""
        wanted = (errors.name, errors.target, errors.layer)
        return next(model for model in self.models if (model.name, model.target, model.layer) == wanted)


def targets_of(runs: Iterable[Run]) -> list[str]:
    """The targets of some runs."""
    found = {target for run in runs for target in run.predictions.expected}
    return [target for target in TARGETS if target in found]


def evaluate(runs: Sequence[Run], data: DataSet, unread: Sequence[Rejected] = ()) -> Evaluation:
    """Compare runs on the crystals that all of them must have used.

    Args:
        runs: in the order in which models shall be listed.
        data: the data set.
        unread: run folders that could not be read, for the record.

    Raises:
        DTNNError: no run can be used.
    """
    usable, unfit = check_runs(runs, data)
    if not usable:
        first = [*unread, *unfit][0]
        raise DTNNError(f"evaluate: no run can be used: {first.source}: {first.reason}")
    models, unlike = group_runs(usable)
    targets = targets_of(usable)
    errors = chosen_layers(compare(models, data))
    for target in targets:
        seeds = sorted({seed for model in models if model.target == target for seed in model.runs})
        errors.append(median_model(target, seeds, data))
    rejected = [*unread, *unfit, *unlike, *missing_splits(models)]
    ratios = ratios_to_best_baseline(errors)
    return Evaluation(data, usable, models, errors, by_layer(models, data), ratios, rejected)


def write_figures(folder: Path, evaluation: Evaluation, show: str | None = None) -> list[tuple[str, Path]]:
    """Draw all figures, with their numbers as CSV beside them.

    Args:
        folder: where they go.
        evaluation: what they show.
        show: the model of which details are shown; None takes the one of ours with the lowest validation error.

    Returns:
        A title and the path of each picture.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    from .comparison import element_errors
    from .figures import draw_data_maps, draw_elements, draw_layers, draw_systems

    shown = evaluation.shown(show)
    drawn = []
    if evaluation.ablations:
        draw_layers(folder / "layers.png", evaluation.ablations)
        drawn.append(("Error against the encoder layer that is decoded (the paper's Fig. 5a)", folder / "layers.png"))
    members = [evaluation.model(errors) for errors in shown]
    draw_elements(folder / "elements.png", [(model, element_errors(model, evaluation.data)) for model in members])
    drawn.append(("Error of each element against its number of crystals (Fig. 5b)", folder / "elements.png"))
    draw_systems(folder / "systems.png", shown)
    drawn.append(("The four errors in each crystal system (Fig. 5c to 5e)", folder / "systems.png"))
    draw_data_maps(folder / "data.png", evaluation.data)
    drawn.append(("The data set: elements, crystal systems, band gaps", folder / "data.png"))
    return drawn

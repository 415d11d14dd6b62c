# SPDX-License-Identifier: MIT
"""Models compared over several splits: their runs grouped, errors averaged, layers chosen, ratios to baselines."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan
from pathlib import Path
from typing import Literal

import numpy as np

from ..crystals.crystal import Rejected
from ..symmetry import CRYSTAL_SYSTEMS, UNKNOWN
from ..training.metrics import (
    METRICS,
    RANKING_METRICS,
    crystal_errors,
    median_tensor,
    ranking_quality,
    summarise,
)
from ..training.run_folder import RunPredictions
from .runs import DataSet, Run

MEDIAN_ERROR = "median_ten"
# DTNN's MAE_ten over the best baseline's in Table 2 of arXiv 2405.09052, on 6,648 crystals of the Materials Project.
PAPER_RATIOS = {"electronic": 0.75, "ionic": 0.90, "total": 0.87}


@dataclass(frozen=True)
class Model:
    """A model that was trained for one target on several splits.

    Args:
        name: name for the tables.
        target: the tensor it predicts.
        layer: the encoder layer that is decoded; None for a baseline.
        runs: by seed, at least one.
    """

    name: str
    target: str
    layer: int | None
    runs: Mapping[int, Run]

    @property
    def is_baseline(self) -> bool:
        """Whether the model is not ours."""
        return next(iter(self.runs.values())).is_baseline


def group_runs(runs: Sequence[Run]) -> tuple[list[Model], list[Rejected]]:
    """Group runs by model, target and layer.

    Args:
        runs: in the order in which the models are to be listed.

    Returns:
        The models, ours before the baselines; and the rejected runs. A run is rejected if its settings differ from most
        runs of its model, or if the model already has a run of its split.
    """
    groups: dict[tuple[str, str, int | None], list[Run]] = {}
    for run in runs:
        for target in run.predictions.predicted:
            groups.setdefault((run.model, target, run.layer), []).append(run)
    models = []
    rejected_targets: dict[tuple[Path, str], list[str]] = {}
    for (name, target, layer), group in groups.items():
        usual_settings = Counter(run.model_settings for run in group).most_common(1)[0][0]
        by_seed: dict[int, Run] = {}
        for run in group:
            if run.model_settings != usual_settings:
                reason = f"has other settings than most runs of {name!r}: give it its own label"
                rejected_targets.setdefault((run.folder, reason), []).append(target)
            elif run.seed in by_seed:
                reason = f"{name!r} already has a run of the split of seed {run.seed}: {by_seed[run.seed].folder}"
                rejected_targets.setdefault((run.folder, reason), []).append(target)
            else:
                by_seed[run.seed] = run
        models.append(Model(name, target, layer, dict(sorted(by_seed.items()))))
    rejected = [
        Rejected(folder.name, str(folder), f"{', '.join(targets)}: {reason}")
        for (folder, reason), targets in rejected_targets.items()
    ]
    return sorted(models, key=lambda model: model.is_baseline), rejected


def missing_splits(models: Sequence[Model]) -> list[Rejected]:
    """Report each model without a run of a split that another model of its target has: its mean is not comparable."""
    seeds = _seeds_by_target(models)
    rejected = []
    for model in models:
        missing = sorted(seeds[model.target] - set(model.runs))
        if missing:
            layer = "" if model.layer is None else f", layer {model.layer}"
            listed = ", ".join(map(str, missing))
            reason = f"no run of the splits of seed {listed}, which other models have: listed, but not compared"
            rejected.append(Rejected(model.name, f"{model.name} ({model.target}{layer})", reason))
    return rejected


def _seeds_by_target(models: Iterable[Model]) -> dict[str, set[int]]:
    """Collect the seeds of all splits that some model of a target has."""
    seeds: dict[str, set[int]] = {}
    for model in models:
        seeds.setdefault(model.target, set()).update(model.runs)
    return seeds


@dataclass(frozen=True)
class Spread:
    """Mean over splits, and standard deviation of the sample (0 for a single value)."""

    mean: float
    std: float
    splits: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise the values of the splits, at least one."""
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0, len(values))

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.std:.2f}" if self.splits > 1 else f"{self.mean:.2f}"


@dataclass(frozen=True)
class ModelErrors:
    """Test errors of a model for one target.

    Args:
        name: name of the model.
        target: the tensor.
        layer: the encoder layer that is decoded; None for a baseline.
        role: "ours", "baseline", or "median" for the median of the training tensors.
        seeds: seeds of its splits.
        complete: whether it has every split that another model of this target has, so that means can be compared.
        errors: over the splits, by group ("all" and the crystal systems) and metric (`METRICS` and `MEDIAN_ERROR`); a
            split without a test crystal of a system does not count for it.
        counts: mean number of test crystals of each group, over all splits.
        validation: MAE_ten on the validation crystals, by which settings are chosen.
        ranking: `RANKING_METRICS` of the means over the splits, and "high", the number of test crystals above
            `HIGH_PERMITTIVITY`; what no split has is missing.
    """

    name: str
    target: str
    layer: int | None
    role: Literal["ours", "baseline", "median"]
    seeds: tuple[int, ...]
    complete: bool
    errors: Mapping[str, Mapping[str, Spread]]
    counts: Mapping[str, float]
    validation: Spread
    ranking: Mapping[str, Spread]


def compare(models: Sequence[Model], data: DataSet) -> list[ModelErrors]:
    """Compute the errors of each model, in the same order."""
    seeds = _seeds_by_target(models)
    return [
        ModelErrors(
            model.name,
            model.target,
            model.layer,
            "baseline" if model.is_baseline else "ours",
            tuple(model.runs),
            set(model.runs) == seeds[model.target],
            *_errors_over_splits([run.predictions for run in model.runs.values()], model.target, data),
        )
        for model in models
    ]


def median_model(target: str, seeds: Sequence[int], data: DataSet) -> ModelErrors:
    """Compute the errors of always predicting the median of the training tensors, element by element."""
    measured = _errors_over_splits([_median_predictions(target, seed, data) for seed in seeds], target, data)
    return ModelErrors("training median", target, None, "median", tuple(seeds), True, *measured)


def _median_predictions(target: str, seed: int, data: DataSet) -> RunPredictions:
    median = median_tensor(data.tensors(data.part_ids(seed, "train"), target))
    ids_by_part = {part: data.part_ids(seed, part) for part in ("test", "validation")}
    ids = [id for part_ids in ids_by_part.values() for id in part_ids]
    parts = [part for part, part_ids in ids_by_part.items() for _ in part_ids]
    expected = data.tensors(ids, target)
    return RunPredictions(ids, parts, {target: np.broadcast_to(median, expected.shape)}, {target: expected})


def _errors_over_splits(
    splits: Sequence[RunPredictions], target: str, data: DataSet
) -> tuple[dict[str, dict[str, Spread]], dict[str, float], Spread, dict[str, Spread]]:
    """Compute `errors`, `counts`, `validation` and `ranking` of `ModelErrors`."""
    test_summaries, validation_errors = [], []
    rankings: dict[str, list[float]] = {metric: [] for metric in (*RANKING_METRICS, "high")}
    for predictions in splits:
        test, validation = predictions.select_part("test"), predictions.select_part("validation")
        test_summaries.append(summarise(test.predicted[target], test.expected[target], data.systems(test.ids)))
        if len(test.ids) > 1:
            quality = ranking_quality(test.predicted[target], test.expected[target])
            for metric, values in rankings.items():
                if not isnan(quality[metric]):
                    values.append(quality[metric])
        errors_of_crystals = crystal_errors(validation.predicted[target], validation.expected[target])
        validation_errors.append(float(errors_of_crystals["mae_ten"].mean()))
    errors, counts = {}, {}
    for group in ("all", *CRYSTAL_SYSTEMS, UNKNOWN):
        summaries = [summary[group] for summary in test_summaries if group in summary]
        if summaries:
            metrics = (*METRICS, MEDIAN_ERROR)
            errors[group] = {metric: Spread.of([summary[metric] for summary in summaries]) for metric in metrics}
            counts[group] = sum(summary["count"] for summary in summaries) / len(test_summaries)
    ranking = {metric: Spread.of(values) for metric, values in rankings.items() if values}
    return errors, counts, Spread.of(validation_errors), ranking


def chosen_layers(models: Sequence[ModelErrors]) -> list[ModelErrors]:
    """Choose the encoder layer with the lowest validation error, for each model and target.

    A layer that lacks splits is chosen only if all layers do.
    """
    best: dict[tuple[str, str], ModelErrors] = {}
    for model in models:
        so_far = best.setdefault((model.name, model.target), model)
        if (not model.complete, model.validation.mean) < (not so_far.complete, so_far.validation.mean):
            best[model.name, model.target] = model
    return list(best.values())


def by_layer(models: Sequence[Model], data: DataSet) -> dict[str, list[ModelErrors]]:
    """Compute the layer ablation: models trained on several encoder layers, on the splits that all layers have.

    Returns:
        By the model's name, in the order of target and layer.
    """
    groups: dict[tuple[str, str], list[Model]] = {}
    for model in models:
        if model.layer is not None:
            groups.setdefault((model.name, model.target), []).append(model)
    ablations: dict[str, list[ModelErrors]] = {}
    for (name, _), layers in groups.items():
        common_seeds = sorted(set.intersection(*(set(model.runs) for model in layers)))
        if len(layers) > 1 and common_seeds:
            comparable = [replace(model, runs={seed: model.runs[seed] for seed in common_seeds}) for model in layers]
            comparable.sort(key=lambda model: model.layer or 0)
            ablations.setdefault(name, []).extend(compare(comparable, data))
    return ablations


@dataclass(frozen=True)
class Ratio:
    """MAE_ten of one of our models on all test crystals, divided by that of the best baseline on the same splits."""

    name: str
    target: str
    baseline: str
    value: float
    paper: float


def ratios_to_best_baseline(models: Sequence[ModelErrors]) -> list[Ratio]:
    """Compare each of our complete models with the best complete baseline; targets without one are left out.

    Args:
        models: models of all targets.
    """
    ratios = []
    for target, paper_ratio in PAPER_RATIOS.items():
        complete = [model for model in models if model.target == target and model.complete]
        errors = {model.name: model.errors["all"]["mae_ten"].mean for model in complete if model.role == "baseline"}
        if not errors:
            continue
        best = min(errors, key=lambda name: errors[name])
        for model in complete:
            if model.role == "ours":
                value = model.errors["all"]["mae_ten"].mean / errors[best]
                ratios.append(Ratio(model.name, target, best, value, paper_ratio))
    return ratios


def best_model(models: Sequence[ModelErrors], target: str) -> ModelErrors | None:
    """Return the model with the lowest validation error; complete models come first, then ours, then baselines."""
    candidates = [model for model in models if model.target == target and model.role != "median"]
    if not candidates:
        return None
    return min(candidates, key=lambda model: (not model.complete, model.role != "ours", model.validation.mean))


@dataclass(frozen=True)
class ElementError:
    """Error of the crystals that contain an element.

    Args:
        atomic_number: the element.
        crystals: number of crystals of the data set that contain it.
        tested: number of test crystals of all splits that contain it; a crystal may be tested in several splits.
        mae_ten: mean over these test crystals.
    """

    atomic_number: int
    crystals: int
    tested: int
    mae_ten: float


def element_errors(model: Model, data: DataSet) -> list[ElementError]:
    """Average the errors of the test crystals of all splits that contain an element, for each element in them."""
    errors: dict[int, list[float]] = {}
    for run in model.runs.values():
        test = run.predictions.select_part("test")
        values = crystal_errors(test.predicted[model.target], test.expected[model.target])["mae_ten"]
        for id, value in zip(test.ids, values.tolist(), strict=True):
            for element in data.elements(id):
                errors.setdefault(element, []).append(value)
    counts = data.element_counts()
    return [ElementError(z, counts[z], len(errors[z]), sum(errors[z]) / len(errors[z])) for z in sorted(errors)]

# SPDX-License-Identifier: MIT
"""Errors of models over several splits, and what can be said of one beside another."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ..symmetry import CRYSTAL_SYSTEMS, UNKNOWN
from ..training.metrics import METRICS, crystal_errors, median_tensor, summarise
from ..training.run_folder import RunPredictions
from .runs import DataSet, Model

MEDIAN_ERROR = "median_ten"
# DTNN's MAE_ten over the best baseline's in Table 2 of arXiv 2405.09052, on 6,648 crystals of the Materials Project.
PAPER_RATIOS = {"electronic": 0.75, "ionic": 0.90, "total": 0.87}


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of the sample (0 for a single value) over splits."""

    mean: float
    std: float
    splits: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Over the values of the splits, at least one."""
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0, len(values))

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.std:.2f}" if self.splits > 1 else f"{self.mean:.2f}"


@dataclass(frozen=True)
class ModelErrors:
    """Test errors of a model for one target.

    Args:
        name: of the model.
        target: the tensor.
        layer: the encoder layer that is decoded; None for a baseline.
        kind: "ours", "baseline" for a model of others, or "median" for the median of the training tensors.
        seeds: of its splits.
        complete: whether it has every split that another model of this target has, so that means can be compared.
        errors: over the splits, by group ("all" and the crystal systems) and metric (`METRICS` and `MEDIAN_ERROR`); a
            split without a test crystal of a system does not count for it.
        counts: mean number of test crystals of each group, over all splits.
        validation: MAE_ten on the validation crystals, by which settings are chosen.
    """

    name: str
    target: str
    layer: int | None
    kind: Literal["ours", "baseline", "median"]
    seeds: tuple[int, ...]
    complete: bool
    errors: Mapping[str, Mapping[str, Spread]]
    counts: Mapping[str, float]
    validation: Spread


def compare(models: Sequence[Model], data: DataSet) -> list[ModelErrors]:
    """The errors of each model, in the same order."""
    seeds: dict[str, set[int]] = {}
    for model in models:
        seeds.setdefault(model.target, set()).update(model.runs)
    found = []
    for model in models:
        measured = _measure([run.predictions for run in model.runs.values()], model.target, data)
        complete = set(model.runs) == seeds[model.target]
        kind: Literal["ours", "baseline"] = "baseline" if model.is_baseline else "ours"
        seeds_of_model = tuple(model.runs)
        found.append(ModelErrors(model.name, model.target, model.layer, kind, seeds_of_model, complete, *measured))
    return found


def median_model(target: str, seeds: Sequence[int], data: DataSet) -> ModelErrors:
    """The errors of always predicting the median of the training tensors, element by element."""
    measured = _measure([_median_predictions(target, seed, data) for seed in seeds], target, data)
    return ModelErrors("training median", target, None, "median", tuple(seeds), True, *measured)


def _median_predictions(target: str, seed: int, data: DataSet) -> RunPredictions:
    median = median_tensor(data.tensors(data.part(seed, "train"), target))
    parts = {part: data.part(seed, part) for part in ("test", "validation")}
    ids = [id for part in parts.values() for id in part]
    names = [name for name, part in parts.items() for _ in part]
    expected = data.tensors(ids, target)
    return RunPredictions(ids, names, {target: np.broadcast_to(median, expected.shape)}, {target: expected})


def _measure(
    splits: Sequence[RunPredictions], target: str, data: DataSet
) -> tuple[dict[str, dict[str, Spread]], dict[str, float], Spread]:
    """`errors`, `counts` and `validation` of `ModelErrors`."""
    tests, validation = [], []
    for predictions in splits:
        test, kept = predictions.select_part("test"), predictions.select_part("validation")
        tests.append(summarise(test.predicted[target], test.expected[target], data.systems(test.ids)))
        validation.append(float(crystal_errors(kept.predicted[target], kept.expected[target])["mae_ten"].mean()))
    errors, counts = {}, {}
    for group in ("all", *CRYSTAL_SYSTEMS, UNKNOWN):
        present = [test[group] for test in tests if group in test]
        if present:
            metrics = (*METRICS, MEDIAN_ERROR)
            errors[group] = {metric: Spread.of([split[metric] for split in present]) for metric in metrics}
            counts[group] = sum(split["count"] for split in present) / len(tests)
    return errors, counts, Spread.of(validation)


def chosen_layers(models: Sequence[ModelErrors]) -> list[ModelErrors]:
    """Of models that were trained on several encoder layers, the one with the lowest validation error for each target.

    A layer that lacks splits is chosen only where all do.
    """
    best: dict[tuple[str, str], ModelErrors] = {}
    for model in models:
        before = best.setdefault((model.name, model.target), model)
        if (not model.complete, model.validation.mean) < (not before.complete, before.validation.mean):
            best[model.name, model.target] = model
    return list(best.values())


def by_layer(models: Sequence[Model], data: DataSet) -> dict[str, list[ModelErrors]]:
    """The layer ablation: models that were trained on several encoder layers, on the splits that all layers have.

    Returns:
        By the model's name, in the order of target and layer.
    """
    groups: dict[tuple[str, str], list[Model]] = {}
    for model in models:
        if model.layer is not None:
            groups.setdefault((model.name, model.target), []).append(model)
    found: dict[str, list[ModelErrors]] = {}
    for (name, _), members in groups.items():
        common = set.intersection(*(set(model.runs) for model in members))
        if len(members) > 1 and common:
            same = [replace(model, runs={seed: model.runs[seed] for seed in sorted(common)}) for model in members]
            found.setdefault(name, []).extend(compare(sorted(same, key=lambda model: model.layer or 0), data))
    return found


@dataclass(frozen=True)
class Ratio:
    """MAE_ten of one of our models on all test crystals over that of the best baseline, on the same splits."""

    name: str
    target: str
    baseline: str
    value: float
    paper: float


def ratios_to_best_baseline(models: Sequence[ModelErrors]) -> list[Ratio]:
    """Of each of our models that has all splits; none for a target without a baseline that has them too.

    Args:
        models: of all targets.
    """
    found = []
    for target, paper in PAPER_RATIOS.items():
        able = [model for model in models if model.target == target and model.complete]
        errors = {model.name: model.errors["all"]["mae_ten"].mean for model in able if model.kind == "baseline"}
        if not errors:
            continue
        best = min(errors, key=lambda name: errors[name])
        for model in able:
            if model.kind == "ours":
                value = model.errors["all"]["mae_ten"].mean / errors[best]
                found.append(Ratio(model.name, target, best, value, paper))
    return found


def shown_model(models: Sequence[ModelErrors], target: str) -> ModelErrors | None:
    """The model of which figures show details: of ours, or else of all, the one with the lowest validation error."""
    able = [model for model in models if model.target == target and model.kind != "median"]
    key = [(not model.complete, model.kind != "ours", model.validation.mean) for model in able]
    return able[key.index(min(key))] if able else None


@dataclass(frozen=True)
class ElementError:
    """How well crystals with an element are predicted.

    Args:
        atomic_number: the element.
        crystals: of the data set that contain it.
        tested: test crystals of all splits that contain it; a crystal may be in the test part of several splits.
        mae_ten: mean over those.
    """

    atomic_number: int
    crystals: int
    tested: int
    mae_ten: float


def element_errors(model: Model, data: DataSet) -> list[ElementError]:
    """The mean error over the test crystals of all splits that contain an element, for each that occurs in them."""
    errors: dict[int, list[float]] = {}
    for run in model.runs.values():
        test = run.predictions.select_part("test")
        values = crystal_errors(test.predicted[model.target], test.expected[model.target])["mae_ten"]
        for id, value in zip(test.ids, values.tolist(), strict=True):
            for element in data.elements(id):
                errors.setdefault(element, []).append(value)
    counts = data.element_counts()
    return [ElementError(z, counts[z], len(errors[z]), sum(errors[z]) / len(errors[z])) for z in sorted(errors)]

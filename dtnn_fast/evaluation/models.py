# SPDX-License-Identifier: MIT
"""Runs of the same model on several splits, put together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..crystals.rejected import Rejected
from .runs import Run


@dataclass(frozen=True)
class Model:
    """A model that was trained for one target on several splits.

    Args:
        name: for the tables.
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
        """Whether this is a model of others."""
        return next(iter(self.runs.values())).is_baseline


def group_runs(runs: Sequence[Run]) -> tuple[list[Model], list[Rejected]]:
    """Put the runs of each model, target and layer together.

    Args:
        runs: in the order in which the models shall be listed.

    Returns:
        The models, ours before the baselines; and the runs that cannot belong to theirs: with other settings than most
        of its runs, or of a split that it already has.
    """
    found: dict[tuple[str, str, int | None], list[Run]] = {}
    for run in runs:
        for target in run.predictions.predicted:
            found.setdefault((run.model, target, run.layer), []).append(run)
    models = []
    unfit: dict[tuple[Path, str], list[str]] = {}
    for (name, target, layer), members in found.items():
        usual = Counter(run.settings for run in members).most_common(1)[0][0]
        kept: dict[int, Run] = {}
        for run in members:
            if run.settings != usual:
                reason = f"has other settings than most runs of {name!r}: give it a label of its own"
                unfit.setdefault((run.folder, reason), []).append(target)
            elif run.seed in kept:
                reason = f"{name!r} already has a run of the split of seed {run.seed}: {kept[run.seed].folder}"
                unfit.setdefault((run.folder, reason), []).append(target)
            else:
                kept[run.seed] = run
        models.append(Model(name, target, layer, dict(sorted(kept.items()))))
    rejected = [
        Rejected(folder.name, str(folder), f"{', '.join(targets)}: {reason}")
        for (folder, reason), targets in unfit.items()
    ]
    return sorted(models, key=lambda model: model.is_baseline), rejected


def missing_splits(models: Sequence[Model]) -> list[Rejected]:
    """Splits that a model lacks and another model of the same target has: its means cannot be compared.

    Returns:
        A record for each model that lacks some.
    """
    seeds: dict[str, set[int]] = {}
    for model in models:
        seeds.setdefault(model.target, set()).update(model.runs)
    records = []
    for model in models:
        missing = sorted(seeds[model.target] - set(model.runs))
        if missing:
            layer = "" if model.layer is None else f", layer {model.layer}"
            listed = ", ".join(map(str, missing))
            reason = f"no run of the splits of seed {listed}, which other models have: listed, but not compared"
            records.append(Rejected(model.name, f"{model.name} ({model.target}{layer})", reason))
    return records

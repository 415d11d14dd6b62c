# SPDX-License-Identifier: MIT
"""Finished runs, read from their folders; what cannot be read does not stop the rest."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..crystals.crystal import Crystal, Rejected
from ..datasets.splits import split
from ..errors import BadFileError
from ..files import read_json_object
from ..training.run_folder import (
    MEMBERS_FOLDER,
    PREDICTIONS_FILE,
    RESULTS_FILE,
    SETTINGS_FILE,
    SPLIT_PARTS,
    RunPredictions,
    data_digest,
    load_predictions,
)

# Parts of a path that say which run of a model it is, not which model.
_NO_NAME = re.compile(r"split-?\d+|layer-?\d+|electronic|ionic|total|all")
_SPLIT_FOLDER = re.compile(r"split-?(\d+)")


@dataclass(frozen=True)
class Run:
    """One model trained on one split.

    Args:
        folder: of the run.
        model: the label of the run, or else the part of the path that names it.
        seed: of the split.
        digest: of the data set; see `data_digest`.
        is_baseline: whether this is a model of others: neither one with our decoder nor an ensemble of such models.
        layer: the encoder layer that is decoded; None where it is not a single one.
        settings: everything that was set but the seed and that layer, as JSON: runs of one model agree in it.
        record: settings.json.
        results: results.json.
        predictions: of the best weights, on all parts of the split.
    """

    folder: Path
    model: str
    seed: int
    digest: str
    is_baseline: bool
    layer: int | None
    settings: str
    record: dict[str, Any]
    results: dict[str, Any]
    predictions: RunPredictions


def find_runs(paths: Iterable[Path]) -> tuple[list[Path], list[Rejected]]:
    """List the run folders at or below some paths.

    Args:
        paths: run folders, or folders of them at any depth.

    Returns:
        The folders, each once, sorted below each path; and the paths that hold none.
    """
    folders: dict[Path, Path] = {}
    rejected = []
    for path in paths:
        files = [file for name in (SETTINGS_FILE, PREDICTIONS_FILE) for file in path.rglob(name)]
        below = sorted({file.parent for file in files})
        if not below:
            reason = "no runs there: expected folders with settings.json" if path.is_dir() else "no such folder"
            rejected.append(Rejected(path.name, str(path), reason))
        # The members of an ensemble are parts of the run above them.
        whole = [folder for folder in below if MEMBERS_FOLDER not in folder.relative_to(path).parts]
        ensembles = dict.fromkeys(folder.parents[1] for folder in below if folder.parent.name == MEMBERS_FOLDER)
        for folder in ensembles:
            if folder not in whole and folder.is_relative_to(path):
                reason = "members of an ensemble that is not finished; its command goes on with it"
                rejected.append(Rejected(folder.name, str(folder), reason))
        for folder in whole:
            folders.setdefault(folder.resolve(), folder)
    return list(folders.values()), rejected


def read_runs(folders: Iterable[Path]) -> tuple[list[Run], list[Rejected]]:
    """Read run folders; those that are unfinished or damaged are rejected."""
    runs, rejected = [], []
    for folder in folders:
        try:
            runs.append(read_run(folder))
        except BadFileError as error:
            rejected.append(Rejected.because(error, folder.name, str(folder)))
    return runs, rejected


def read_run(folder: Path) -> Run:
    """Read one run.

    Args:
        folder: with settings.json (which has "settings", with "seed", and "data", with "digest", and may have
            "label"), results.json and predictions.npz.

    Raises:
        BadFileError: a file is missing or damaged.
    """
    record = read_json_object(folder / SETTINGS_FILE)
    for name in (RESULTS_FILE, PREDICTIONS_FILE):
        if not (folder / name).exists():
            raise BadFileError(f"{folder}: {name} is missing: the run is not finished; its command goes on with it")
    settings, data = record.get("settings"), record.get("data")
    digest = data.get("digest") if isinstance(data, dict) else None
    if not isinstance(settings, dict) or not isinstance(digest, str):
        raise BadFileError(f"{folder / SETTINGS_FILE}: expected the objects `settings` and `data` with `digest`")
    same = {name: value for name, value in settings.items() if name != "seed"}
    model = settings.get("model")
    decoder = model.get("decoder") if isinstance(model, dict) else None
    layer = decoder.get("layer") if isinstance(decoder, dict) and not decoder.get("more_layers") else None
    if isinstance(model, dict) and isinstance(decoder, dict) and isinstance(layer, int):
        same["model"] = {**model, "decoder": {name: value for name, value in decoder.items() if name != "layer"}}
    return Run(
        folder,
        _name(record, folder),
        _seed(settings, folder),
        digest,
        not isinstance(decoder, dict) and "models" not in settings,
        layer if isinstance(layer, int) else None,
        json.dumps(same, sort_keys=True),
        record,
        read_json_object(folder / RESULTS_FILE),
        load_predictions(folder / PREDICTIONS_FILE),
    )


def _name(record: dict[str, Any], folder: Path) -> str:
    label = record.get("label")
    if isinstance(label, str) and label.strip():
        return " ".join(label.split())
    names = (part for part in reversed(folder.resolve().parts[1:]) if not _NO_NAME.fullmatch(part))
    return next(names, "model")


def _seed(settings: dict[str, Any], folder: Path) -> int:
    seed = settings.get("seed")
    if isinstance(seed, int):
        return seed
    found = _SPLIT_FOLDER.fullmatch(folder.name)
    if found is None:
        raise BadFileError(f"{folder / SETTINGS_FILE}: expected the `seed` of the split in `settings`, got {seed!r}")
    return int(found[1])


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


# Predictions files may hold the expected tensors in single precision.
TENSOR_TOLERANCE = 1e-3


class DataSet:
    """Labelled crystals with what the tables need to know of them.

    Args:
        crystals: that runs are trained and tested on, cleaned, each with "crystal_system" in `info`.
    """

    def __init__(self, crystals: Sequence[Crystal]) -> None:
        self.crystals = {crystal.id: crystal for crystal in crystals}
        self.digest = data_digest(crystals)
        self._ids = list(self.crystals)
        self._parts: dict[int, dict[str, list[str]]] = {}

    def __len__(self) -> int:
        return len(self.crystals)

    def part(self, seed: int, part: str) -> list[str]:
        """The ids of the crystals of one part of a split."""
        if seed not in self._parts:
            indices = split(self._ids, seed)
            self._parts[seed] = {name: [self._ids[index] for index in getattr(indices, name)] for name in SPLIT_PARTS}
        return self._parts[seed][part]

    def tensors(self, ids: Sequence[str], target: str) -> np.ndarray:
        """The expected tensors of some crystals. [n, 3, 3]."""
        return np.array([self.crystals[id].targets[target] for id in ids]).reshape(-1, 3, 3)

    def systems(self, ids: Sequence[str]) -> list[str]:
        """Their crystal systems."""
        return [str(self.crystals[id].info.get("crystal_system") or "unknown") for id in ids]

    def elements(self, id: str) -> frozenset[int]:
        """The atomic numbers of a crystal."""
        return frozenset(self.crystals[id].atomic_numbers.tolist())

    def element_counts(self) -> Counter[int]:
        """How many crystals contain each element."""
        return Counter(z for id in self.crystals for z in self.elements(id))


def check_run(run: Run, data: DataSet) -> None:
    """See that a run was trained and tested on the crystals of its split, and on the tensors of the data set.

    Raises:
        BadFileError: it was not.
    """
    if run.digest != data.digest:
        raise BadFileError(
            f"{run.folder}: of another data set: its digest is {run.digest}, that of the {len(data)} crystals compared "
            f"here {data.digest}"
        )
    for part in SPLIT_PARTS:
        found, expected = run.predictions.select_part(part).ids, data.part(run.seed, part)
        if sorted(found) != sorted(expected):
            missing, more = len(set(expected) - set(found)), len(set(found) - set(expected))
            raise BadFileError(
                f"{run.folder}: its {part} crystals are not those of the split of seed {run.seed}: "
                f"{missing} are missing, {more} are others, of {len(expected)}"
            )
    ids = run.predictions.ids
    for target, tensors in run.predictions.expected.items():
        known = data.tensors(ids, target)
        same = np.isclose(tensors, known, rtol=TENSOR_TOLERANCE, atol=TENSOR_TOLERANCE).all((1, 2))
        if not same.all():
            first = ids[int(np.argmin(same))]
            raise BadFileError(f"{run.folder}: the {target} tensor that it expects of {first} is not the data set's")


def check_runs(runs: Sequence[Run], data: DataSet) -> tuple[list[Run], list[Rejected]]:
    """Keep the runs that pass `check_run`."""
    good, rejected = [], []
    for run in runs:
        try:
            check_run(run, data)
        except BadFileError as error:
            rejected.append(Rejected.because(error, run.folder.name, str(run.folder)))
        else:
            good.append(run)
    return good, rejected

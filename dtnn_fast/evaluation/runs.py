# SPDX-License-Identifier: MIT
"""Finished runs: find their folders, read them, and check that they used the crystals of the data set."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..crystals.crystal import Crystal, Rejected
from ..datasets.splits import split_crystals
from ..errors import BadFileError, DTNNError
from ..files import read_json_object
from ..symmetry import UNKNOWN
from ..training.run_folder import (
    MEMBERS_FOLDER,
    PREDICTIONS_FILE,
    RESULTS_FILE,
    RUN_RECORD_FILE,
    SPLIT_PARTS,
    RunPredictions,
    data_digest,
    load_predictions,
)
from .charge_tables import check_charge_errors

# Folder names that say which run of a model it is, not which model.
_RUN_FOLDER = re.compile(r"split-?\d+|layer-?\d+|electronic|ionic|total|all")
_SPLIT_FOLDER = re.compile(r"split-?(\d+)")
# Predictions files may hold the expected tensors in single precision.
TENSOR_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Run:
    """One model trained on one split.

    Args:
        folder: folder of the run.
        model: name of the model: the label of the run, or else the part of the path that names it.
        seed: seed of the split.
        split_by: what the split keeps together; see `split_crystals`.
        digest: digest of the data set; see `data_digest`.
        is_baseline: whether the model is not ours: it has neither our decoder nor is it an ensemble of our models.
        layer: the encoder layer that is decoded; None where it is not a single one.
        model_settings: all settings but the seed and that layer, as JSON; equal for all runs of a model.
        settings_json: content of settings.json.
        results_json: content of results.json.
        predictions: predictions with the best weights, for all parts of the split.
    """

    folder: Path
    model: str
    seed: int
    split_by: str
    digest: str
    is_baseline: bool
    layer: int | None
    model_settings: str
    settings_json: dict[str, Any]
    results_json: dict[str, Any]
    predictions: RunPredictions


def find_runs(paths: Iterable[Path]) -> tuple[list[Path], list[Rejected]]:
    """List the run folders at or below some paths.

    Args:
        paths: run folders, or folders that hold them at any depth.

    Returns:
        The run folders, each once, sorted below each path; and the paths without any.
    """
    run_folders: dict[Path, Path] = {}
    rejected = []
    for path in paths:
        files = [file for name in (RUN_RECORD_FILE, PREDICTIONS_FILE) for file in path.rglob(name)]
        folders = sorted({file.parent for file in files})
        if not folders:
            reason = "found no runs: expected folders with settings.json" if path.is_dir() else "no such folder"
            rejected.append(Rejected(path.name, str(path), reason))
        # Members of an ensemble belong to the run above them.
        complete = [folder for folder in folders if MEMBERS_FOLDER not in folder.relative_to(path).parts]
        ensembles = dict.fromkeys(folder.parents[1] for folder in folders if folder.parent.name == MEMBERS_FOLDER)
        for folder in ensembles:
            if folder not in complete and folder.is_relative_to(path):
                reason = "members of an ensemble that is not finished: repeat its command to resume it"
                rejected.append(Rejected(folder.name, str(folder), reason))
        for folder in complete:
            run_folders.setdefault(folder.resolve(), folder)
    return list(run_folders.values()), rejected


def read_runs(folders: Iterable[Path]) -> tuple[list[Run], list[Rejected]]:
    """Read run folders; unfinished and damaged runs are rejected."""
    runs, rejected = [], []
    for folder in folders:
        try:
            runs.append(read_run(folder))
        except BadFileError as error:
            rejected.append(Rejected.from_error(error, folder.name, str(folder)))
    return runs, rejected


def read_run(folder: Path) -> Run:
    """Read one run.

    Args:
        folder: folder with settings.json (which has "settings", with "seed", and "data", with "digest", and may have
            "label"), results.json and predictions.npz.

    Raises:
        BadFileError: a file is missing or damaged.
    """
    settings_json = read_json_object(folder / RUN_RECORD_FILE)
    for name in (RESULTS_FILE, PREDICTIONS_FILE):
        if not (folder / name).exists():
            raise BadFileError(f"{folder}: {name} is missing: the run is not finished; repeat its command to resume it")
    settings, data = settings_json.get("settings"), settings_json.get("data")
    digest = data.get("digest") if isinstance(data, dict) else None
    if not isinstance(settings, dict) or not isinstance(digest, str):
        raise BadFileError(f"{folder / RUN_RECORD_FILE}: expected the objects `settings` and `data` with `digest`")
    model_settings = {name: value for name, value in settings.items() if name != "seed"}
    model = settings.get("model")
    decoder = model.get("decoder") if isinstance(model, dict) else None
    layer = decoder.get("layer") if isinstance(decoder, dict) and not decoder.get("more_layers") else None
    if isinstance(model, dict) and isinstance(decoder, dict) and isinstance(layer, int):
        without_layer = {name: value for name, value in decoder.items() if name != "layer"}
        model_settings["model"] = {**model, "decoder": without_layer}
    results_json = read_json_object(folder / RESULTS_FILE)
    try:
        check_charge_errors(results_json)
    except ValueError as error:
        raise BadFileError(f"{folder / RESULTS_FILE}: {error}") from error
    return Run(
        folder,
        _model_name(settings_json, folder),
        _seed(settings, folder),
        _split_by(settings),
        digest,
        not isinstance(decoder, dict) and "models" not in settings,
        layer if isinstance(layer, int) else None,
        json.dumps(model_settings, sort_keys=True),
        settings_json,
        results_json,
        load_predictions(folder / PREDICTIONS_FILE),
    )


def _model_name(settings_json: dict[str, Any], folder: Path) -> str:
    label = settings_json.get("label")
    if isinstance(label, str) and label.strip():
        return " ".join(label.split())
    names = (name for name in reversed(folder.resolve().parts[1:]) if not _RUN_FOLDER.fullmatch(name))
    return next(names, "model")


def _seed(settings: dict[str, Any], folder: Path) -> int:
    seed = settings.get("seed")
    if isinstance(seed, int):
        return seed
    split_folder = _SPLIT_FOLDER.fullmatch(folder.name)
    if split_folder is None:
        raise BadFileError(f"{folder / RUN_RECORD_FILE}: expected the `seed` of the split in `settings`, got {seed!r}")
    return int(split_folder[1])


def _split_by(settings: dict[str, Any]) -> str:
    """Return what the split of a run, or of the runs of an ensemble, keeps together."""
    models = settings.get("models")
    first = models[0] if isinstance(models, list) and models else settings
    return str(first.get("split_by", "crystals")) if isinstance(first, dict) else "crystals"


def usual_split(runs: Sequence[Run]) -> str:
    """Return what the splits of most runs keep together; of the first among equally many. "crystals" without runs."""
    counts = Counter(run.split_by for run in runs)
    return counts.most_common(1)[0][0] if counts else "crystals"


class DataSet:
    """Labelled crystals by id, with their splits and properties.

    Args:
        crystals: crystals that runs are trained and tested on, cleaned, each with "crystal_system" in `info`.
        split_by: what the splits keep together; see `split_crystals`.
    """

    def __init__(self, crystals: Sequence[Crystal], split_by: str = "crystals") -> None:
        self.crystals = {crystal.id: crystal for crystal in crystals}
        self.split_by = split_by
        self.digest = data_digest(crystals)
        self._ids = list(self.crystals)
        self._part_ids: dict[int, dict[str, list[str]]] = {}

    def __len__(self) -> int:
        return len(self.crystals)

    def part_ids(self, seed: int, part: str) -> list[str]:
        """Return the ids of the crystals of one part of a split.

        Args:
            seed: seed of the split.
            part: "train", "validation" or "test".

        Raises:
            DTNNError: the crystals cannot be split in this way.
        """
        if seed not in self._part_ids:
            try:
                parts = split_crystals(list(self.crystals.values()), self.split_by, seed)
            except ValueError as error:
                raise DTNNError(f"evaluate: the crystals cannot be split by {self.split_by}: {error}") from error
            self._part_ids[seed] = {name: [self._ids[index] for index in getattr(parts, name)] for name in SPLIT_PARTS}
        return self._part_ids[seed][part]

    def tensors(self, ids: Sequence[str], target: str) -> np.ndarray:
        """Return the expected tensors of some crystals. [n, 3, 3]."""
        return np.array([self.crystals[id].targets[target] for id in ids]).reshape(-1, 3, 3)

    def systems(self, ids: Sequence[str]) -> list[str]:
        """Return the crystal systems of some crystals."""
        return [str(self.crystals[id].info.get("crystal_system") or UNKNOWN) for id in ids]

    def elements(self, id: str) -> frozenset[int]:
        """Return the atomic numbers that occur in a crystal."""
        return frozenset(self.crystals[id].atomic_numbers.tolist())

    def element_counts(self) -> Counter[int]:
        """Count the crystals that contain each element."""
        return Counter(z for id in self.crystals for z in self.elements(id))


def check_runs(runs: Sequence[Run], data: DataSet) -> tuple[list[Run], list[Rejected]]:
    """Keep the runs that pass `check_run`, and reject the others."""
    usable, rejected = [], []
    for run in runs:
        try:
            check_run(run, data)
        except BadFileError as error:
            rejected.append(Rejected.from_error(error, run.folder.name, str(run.folder)))
        else:
            usable.append(run)
    return usable, rejected


def check_run(run: Run, data: DataSet) -> None:
    """Check that a run was trained and tested on the crystals of its split, with the tensors of the data set.

    Raises:
        BadFileError: it was not.
    """
    if run.digest != data.digest:
        raise BadFileError(
            f"{run.folder}: of another data set: its digest is {run.digest}, that of the {len(data)} crystals compared "
            f"here {data.digest}"
        )
    if run.split_by != data.split_by:
        raise BadFileError(
            f"{run.folder}: tested on a split by {run.split_by}, while the runs compared here are split by "
            f"{data.split_by}: evaluate it with --split-by {run.split_by}"
        )
    for part in SPLIT_PARTS:
        ids, expected_ids = run.predictions.select_part(part).ids, data.part_ids(run.seed, part)
        if sorted(ids) != sorted(expected_ids):
            missing, unexpected = len(set(expected_ids) - set(ids)), len(set(ids) - set(expected_ids))
            raise BadFileError(
                f"{run.folder}: its {part} crystals are not those of the split of seed {run.seed}: "
                f"{missing} are missing, {unexpected} are unexpected, of {len(expected_ids)}"
            )
    ids = run.predictions.ids
    for target, tensors in run.predictions.expected.items():
        published = data.tensors(ids, target)
        equal = np.isclose(tensors, published, rtol=TENSOR_TOLERANCE, atol=TENSOR_TOLERANCE).all((1, 2))
        if not equal.all():
            first = ids[int(np.argmin(equal))]
            raise BadFileError(f"{run.folder}: its expected {target} tensor of {first} is not that of the data set")

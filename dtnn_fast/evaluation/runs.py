# SPDX-License-Identifier: MIT
"""Finished runs, read from their folders; what cannot be read does not stop the rest."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..crystals.rejected import Rejected
from ..errors import BadFileError
from ..files import read_json_object
from ..training.predictions import PREDICTIONS_FILE, Predictions, load_predictions
from ..training.run_folder import MEMBERS_FOLDER, RESULTS_FILE, SETTINGS_FILE

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
    predictions: Predictions


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

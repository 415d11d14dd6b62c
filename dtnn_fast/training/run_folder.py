# SPDX-License-Identifier: MIT
"""Files of a run folder: settings.json says which run it is, predictions.npz and results.json what came out of it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import __version__
from ..crystals.crystal import Crystal
from ..errors import BadFileError
from ..files import read_json_object
from .checkpoint import CHECKPOINT_FILE
from .metrics import median_tensor, ranking_quality, summarise

RUN_RECORD_FILE, HISTORY_FILE, RESULTS_FILE = "settings.json", "history.csv", "results.json"
PREDICTIONS_FILE = "predictions.npz"
MODEL_FOLDER, MEMBERS_FOLDER = "model", "members"
# Parts of a split, in the order in which predictions.npz lists their crystals.
SPLIT_PARTS = ("test", "validation", "train")


def is_new(folder: Path, run_key: dict[str, Any]) -> bool:
    """Return whether the folder holds no run yet; a run that it holds must have this key.

    Args:
        folder: folder of the run.
        run_key: entries of settings.json that tell runs apart, as they read back from JSON.

    Raises:
        BadFileError: the folder holds a run with other settings or data, or a damaged one.
    """
    path = folder / RUN_RECORD_FILE
    if not path.exists():
        if (folder / CHECKPOINT_FILE).exists():
            raise BadFileError(f"{path}: missing beside a checkpoint; choose another folder or remove it")
        return True
    written = read_json_object(path)
    if {key: written.get(key) for key in run_key} != run_key:
        raise BadFileError(f"{folder}: contains a run with other settings or data; choose another folder or delete it")
    return False


def write_record(folder: Path, run_key: dict[str, Any], command: str, **more: Any) -> None:
    """Write settings.json: the command, the run's key, and the versions and machine that the run is computed with.

    Args:
        folder: folder of the run; created if missing.
        run_key: entries that tell runs apart.
        command: the command line.
        more: further entries.
    """
    folder.mkdir(parents=True, exist_ok=True)
    computed_with = {"versions": versions(), "hardware": hardware(), "threads": torch.get_num_threads()}
    record = {"command": command, **more, **run_key, **computed_with}
    (folder / RUN_RECORD_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def data_digest(crystals: Sequence[Crystal]) -> str:
    """Compute a short fingerprint of a data set: ids, structures and labels, in any order."""
    digests = []
    for crystal in crystals:
        digest = hashlib.sha256(crystal.id.encode())
        for array in (crystal.atomic_numbers, crystal.positions, crystal.cell, *crystal.targets.values()):
            digest.update(np.ascontiguousarray(array).tobytes())
        # Nothing is added without these labels, so that fingerprints of version 0.1.0 stay.
        more = (("born", crystal.born_charges), ("force constants", crystal.force_constants))
        for name, values in (*crystal.diagonals.items(), *crystal.means.items(), *more):
            if values is not None:
                digest.update(name.encode() + np.ascontiguousarray(values).tobytes())
        digests.append(digest.hexdigest())
    return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()[:16]


def versions() -> dict[str, str]:
    """Return the versions of dtnn_fast, Python and the packages that affect results, and the machine type."""
    own = {"dtnn_fast": __version__, "python": platform.python_version(), "machine": platform.machine()}
    return own | {name: metadata.version(name) for name in ("torch", "numpy", "safetensors")}


def hardware() -> dict[str, Any]:
    """Name the processor, its cores and the GPU.

    Returns:
        "cpu": the name of the processor; "cores": logical cores of the machine; "gpu": the name of the GPU, or None.
    """
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cpu": _processor(), "cores": os.cpu_count(), "gpu": gpu}


def _processor() -> str:
    """Return the processor's name from Linux, or else what Python knows."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@dataclass(frozen=True)
class RunPredictions:
    """Predicted and expected tensors of the crystals of a split.

    Args:
        ids: ids of the crystals. [n].
        parts: "train", "validation" or "test" for each crystal. [n].
        predicted: [n, 3, 3] for each target.
        expected: [n, 3, 3] for each target.

    Raises:
        ValueError: the lengths differ, a part is unknown, or a tensor is not finite.
    """

    ids: Sequence[str]
    parts: Sequence[str]
    predicted: Mapping[str, np.ndarray]
    expected: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        count = len(self.ids)
        unknown = set(self.parts) - set(SPLIT_PARTS)
        if len(self.parts) != count or unknown:
            raise ValueError(f"RunPredictions: expected `parts` of train, validation or test for {count} crystals")
        if not self.predicted or self.predicted.keys() != self.expected.keys():
            raise ValueError("RunPredictions: expected the same targets in `predicted` and `expected`, at least one")
        for name, tensors in (*self.predicted.items(), *self.expected.items()):
            if tensors.shape != (count, 3, 3) or not np.isfinite(tensors).all():
                raise ValueError(f"RunPredictions: expected finite {name} tensors of shape [{count}, 3, 3]")

    def select_part(self, part: str) -> RunPredictions:
        """Return the predictions for one part of the split, in the same order."""
        rows = np.flatnonzero(np.asarray(self.parts) == part).tolist()
        return RunPredictions(
            [self.ids[row] for row in rows],
            [part] * len(rows),
            {target: tensors[rows] for target, tensors in self.predicted.items()},
            {target: tensors[rows] for target, tensors in self.expected.items()},
        )


def save_predictions(path: Path, predictions: RunPredictions) -> None:
    """Write an .npz with the arrays ids, parts, predicted_<target> and expected_<target>."""
    arrays: dict[str, Any] = {f"predicted_{target}": tensors for target, tensors in predictions.predicted.items()}
    arrays |= {f"expected_{target}": tensors for target, tensors in predictions.expected.items()}
    np.savez_compressed(path, ids=np.array(predictions.ids), parts=np.array(predictions.parts), **arrays)


def load_predictions(path: Path) -> RunPredictions:
    """Read what `save_predictions` wrote.

    Raises:
        BadFileError: the file is missing, damaged, or not of this form.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        targets = [name.removeprefix("predicted_") for name in arrays if name.startswith("predicted_")]
        return RunPredictions(
            arrays["ids"].tolist(),
            arrays["parts"].tolist(),
            {target: arrays[f"predicted_{target}"] for target in targets},
            {target: arrays[f"expected_{target}"] for target in targets},
        )
    except (OSError, EOFError, ValueError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise BadFileError(f"{path}: not the predictions of a run: {error}") from error


def errors_of_parts(predictions: RunPredictions, systems: Mapping[str, str]) -> dict[str, Any]:
    """Compute the errors that results.json holds, beside the errors of predicting the median training tensor.

    Args:
        predictions: for all parts of a split.
        systems: the crystal system of each crystal by its id.

    Returns:
        "errors": `summarise` of each part by target; "median_model": `summarise` of the test part by target;
        "ranking": `ranking_quality` of each part of two crystals or more by target, None in place of NaN.
    """
    ranking: dict[str, Any] = {target: {} for target in predictions.expected}
    errors: dict[str, Any] = {target: {} for target in predictions.expected}
    median_errors: dict[str, Any] = {}
    by_part = {part: predictions.select_part(part) for part in SPLIT_PARTS}
    systems_by_part = {part: [systems[id] for id in selected.ids] for part, selected in by_part.items()}
    for target in predictions.expected:
        for part, selected in by_part.items():
            predicted, expected = selected.predicted[target], selected.expected[target]
            errors[target][part] = summarise(predicted, expected, systems_by_part[part])
            if len(predicted) > 1:
                quality = ranking_quality(predicted, expected)
                ranking[target][part] = {name: None if isnan(value) else value for name, value in quality.items()}
        expected = by_part["test"].expected[target]
        median = np.broadcast_to(median_tensor(by_part["train"].expected[target]), expected.shape)
        median_errors[target] = summarise(median, expected, systems_by_part["test"])
    return {"errors": errors, "median_model": median_errors, "ranking": ranking}


def read_results(folder: Path) -> dict[str, Any]:
    """Read results.json of a finished run of `train_run` or of an ensemble.

    Returns:
        Its values; "members" is 1 where the file does not say.

    Raises:
        BadFileError: the file is missing or damaged.
    """
    path = folder / RESULTS_FILE
    results = {"members": 1, **read_json_object(path)}
    seconds, parameters, members = (results.get(name) for name in ("train_seconds", "parameters", "members"))
    if not isinstance(seconds, int | float) or not isinstance(parameters, dict):
        raise BadFileError(f"{path}: expected a number `train_seconds` and an object `parameters`")
    if not isinstance(members, int) or members < 1:
        raise BadFileError(f"{path}: expected `members` of 1 or more, got {members!r}")
    return results

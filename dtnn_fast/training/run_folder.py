# SPDX-License-Identifier: MIT
"""Whose run a folder holds: settings.json tells runs apart, and says what a run was computed on."""

from __future__ import annotations

import json
import os
import platform
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import __version__
from ..errors import BadFileError
from ..files import read_json_object
from .checkpoint import CHECKPOINT_FILE
from .metrics import median_tensor, summarise


def hardware() -> dict[str, Any]:
    """Name the processor, its cores and the GPU.

    Returns:
        "cpu": the name of the processor; "cores": logical cores of the machine; "gpu": the name of the GPU, or None.
    """
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cpu": _processor(), "cores": os.cpu_count(), "gpu": gpu}


def _processor() -> str:
    """The name that Linux gives; elsewhere what Python knows."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


SETTINGS_FILE, HISTORY_FILE, RESULTS_FILE = "settings.json", "history.csv", "results.json"
MODEL_FOLDER, MEMBERS_FOLDER = "model", "members"


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    names = ("torch", "numpy", "safetensors")
    found = {"dtnn_fast": __version__, "python": platform.python_version(), "machine": platform.machine()}
    return found | {name: metadata.version(name) for name in names}


def is_new(folder: Path, identity: dict[str, Any]) -> bool:
    """Whether the folder holds no run yet; one that is there must be this one.

    Args:
        folder: of the run.
        identity: what tells runs apart, as it reads back from JSON.

    Raises:
        BadFileError: the folder holds a run with other settings or data, or a damaged one.
    """
    path = folder / SETTINGS_FILE
    if not path.exists():
        if (folder / CHECKPOINT_FILE).exists():
            raise BadFileError(f"{path}: missing beside a checkpoint; choose another folder or remove it")
        return True
    before = read_json_object(path)
    if {key: before.get(key) for key in identity} != identity:
        raise BadFileError(f"{folder}: holds a run with other settings or data; choose another folder or remove it")
    return False


def claim(folder: Path, identity: dict[str, Any], command: str, **more: Any) -> None:
    """Write settings.json: the command, the identity, and what the run is computed on.

    Args:
        folder: of the run; made when absent.
        identity: what tells runs apart.
        command: the command line, for the record.
        more: anything else for the record.
    """
    folder.mkdir(parents=True, exist_ok=True)
    surroundings = {"versions": versions(), "hardware": hardware(), "threads": torch.get_num_threads()}
    record = {"command": command, **more, **identity, **surroundings}
    (folder / SETTINGS_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


PREDICTIONS_FILE = "predictions.npz"


@dataclass(frozen=True)
class Predictions:
    """Predicted and expected tensors of the crystals of a split.

    Args:
        ids: of the crystals. [n].
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
        unknown = set(self.parts) - {"train", "validation", "test"}
        if len(self.parts) != count or unknown:
            raise ValueError(f"Predictions: expected `parts` of train, validation or test for {count} crystals")
        if not self.predicted or self.predicted.keys() != self.expected.keys():
            raise ValueError("Predictions: expected the same targets in `predicted` and `expected`, at least one")
        for name, tensors in (*self.predicted.items(), *self.expected.items()):
            if tensors.shape != (count, 3, 3) or not np.isfinite(tensors).all():
                raise ValueError(f"Predictions: expected finite {name} tensors of shape [{count}, 3, 3]")

    def of_part(self, part: str) -> Predictions:
        """Those of the crystals of one part of the split, in the same order."""
        chosen = np.flatnonzero(np.asarray(self.parts) == part).tolist()
        return Predictions(
            [self.ids[index] for index in chosen],
            [part] * len(chosen),
            {target: tensors[chosen] for target, tensors in self.predicted.items()},
            {target: tensors[chosen] for target, tensors in self.expected.items()},
        )


def save_predictions(path: Path, predictions: Predictions) -> None:
    """Write an .npz with the arrays ids, parts, predicted_<target> and expected_<target>."""
    arrays: dict[str, Any] = {f"predicted_{target}": tensors for target, tensors in predictions.predicted.items()}
    arrays |= {f"expected_{target}": tensors for target, tensors in predictions.expected.items()}
    np.savez_compressed(path, ids=np.array(predictions.ids), parts=np.array(predictions.parts), **arrays)


def load_predictions(path: Path) -> Predictions:
    """Read what `save_predictions` wrote.

    Raises:
        BadFileError: the file is missing, damaged, or not of this form.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        targets = [name.removeprefix("predicted_") for name in arrays if name.startswith("predicted_")]
        return Predictions(
            arrays["ids"].tolist(),
            arrays["parts"].tolist(),
            {target: arrays[f"predicted_{target}"] for target in targets},
            {target: arrays[f"expected_{target}"] for target in targets},
        )
    except (OSError, EOFError, ValueError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise BadFileError(f"{path}: not the predictions of a run: {error}") from error


PARTS = ("test", "validation", "train")


def read_results(run: Path) -> dict[str, Any]:
    """Read results.json of a finished run of ours.

    Returns:
        What it holds; "members" is there for a single model too.

    Raises:
        BadFileError: the file is missing or damaged.
    """
    path = run / RESULTS_FILE
    results = {"members": 1, **read_json_object(path)}
    seconds, parameters, members = (results.get(name) for name in ("train_seconds", "parameters", "members"))
    if not isinstance(seconds, int | float) or not isinstance(parameters, dict):
        raise BadFileError(f"{path}: expected a number `train_seconds` and an object `parameters`, or it is damaged")
    if not isinstance(members, int) or members < 1:
        raise BadFileError(f"{path}: expected `members` of 1 or more, got {members!r}")
    return results


def errors_of_parts(predictions: Predictions, systems: Mapping[str, str]) -> dict[str, Any]:
    """Errors of predictions on each part, and of the median of the training tensors on the test part.

    Args:
        predictions: for all parts of a split.
        systems: the crystal system of each crystal by its id.

    Returns:
        "errors": for each target and part what `summarise` gives; "median_model": the same for each target.
    """
    errors: dict[str, Any] = {target: {} for target in predictions.expected}
    medians: dict[str, Any] = {}
    by_part = {part: predictions.of_part(part) for part in PARTS}
    for target in predictions.expected:
        for part, those in by_part.items():
            groups = [systems[id] for id in those.ids]
            errors[target][part] = summarise(those.predicted[target], those.expected[target], groups)
        test = by_part["test"]
        median = median_tensor(by_part["train"].expected[target])
        trivial = np.broadcast_to(median, test.expected[target].shape)
        medians[target] = summarise(trivial, test.expected[target], [systems[id] for id in test.ids])
    return {"errors": errors, "median_model": medians}

# SPDX-License-Identifier: MIT
"""A run folder: settings and versions, the history, checkpoints, the best model and its errors."""

from __future__ import annotations

import csv
import hashlib
import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import __version__
from ..data.crystal import Crystal
from ..data.splits import Split, split
from ..errors import BadFileError
from .dataset import LabelledGraphs
from .metrics import median_tensor, summarise
from .settings import TrainingSettings
from .trainer import Epoch, Trainer

SETTINGS_FILE, HISTORY_FILE, RESULTS_FILE, MODEL_FOLDER = "settings.json", "history.csv", "results.json", "model"
PARTS = ("test", "validation", "train")


def data_digest(crystals: Sequence[Crystal]) -> str:
    """A short fingerprint of a data set: ids, structures and tensors, in any order."""
    lines = []
    for crystal in crystals:
        digest = hashlib.sha256(crystal.id.encode())
        for array in (crystal.atomic_numbers, crystal.positions, crystal.cell, *crystal.targets.values()):
            digest.update(np.ascontiguousarray(array).tobytes())
        lines.append(digest.hexdigest())
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    names = ("torch", "numpy", "safetensors")
    found = {"dtnn_fast": __version__, "python": platform.python_version(), "machine": platform.machine()}
    return found | {name: metadata.version(name) for name in names}


def known_elements(crystals: Sequence[Crystal]) -> tuple[int, ...]:
    """The atomic numbers that occur."""
    return tuple(sorted({int(z) for crystal in crystals for z in crystal.atomic_numbers}))


def train_run(
    settings: TrainingSettings,
    crystals: Sequence[Crystal],
    folder: Path,
    command: str = "",
    *,
    on_epoch: Callable[[Trainer, Epoch], None] = lambda trainer, epoch: None,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
    on_start: Callable[[Trainer], None] = lambda trainer: None,
) -> dict[str, Any]:
    """Train in a run folder, or go on where the run in it stopped, and record everything there.

    Args:
        settings: of the run; the model's elements are taken from the crystals.
        crystals: labelled, cleaned and checked.
        folder: of the run; made when absent.
        command: the command line, for the record.
        on_epoch: called after each epoch.
        on_batch: called after each batch.
        on_start: called before the first epoch, when a checkpoint has been read.

    Returns:
        What results.json holds: the errors on each part of the split for each target.

    Raises:
        BadFileError: the folder holds a run with other settings or data.
    """
    settings = replace(settings, model=replace(settings.model, elements=known_elements(crystals)))
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder, settings, crystals, command)
    data = LabelledGraphs(crystals, settings.model.targets, _cutoffs(settings))
    parts = split([crystal.id for crystal in crystals], settings.seed)
    trainer = Trainer(settings, data, parts, folder)
    on_start(trainer)
    for epoch in trainer.epochs(on_batch):
        on_epoch(trainer, epoch)
    _write_history(folder / HISTORY_FILE, trainer.history)
    trainer.load_best().save(folder / MODEL_FOLDER)
    results = _results(trainer, parts)
    (folder / RESULTS_FILE).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return results


def _cutoffs(settings: TrainingSettings) -> tuple[float, ...]:
    return settings.model.encoder.cutoffs[: settings.model.decoder.layer]


def _claim(folder: Path, settings: TrainingSettings, crystals: Sequence[Crystal], command: str) -> None:
    """Write settings.json, or compare with the one that is there."""
    path = folder / SETTINGS_FILE
    identity = {
        "settings": settings.to_json(),
        "data": {"crystals": len(crystals), "digest": data_digest(crystals)},
    }
    # Through JSON and back, as what is read has been: tuples become lists.
    identity = json.loads(json.dumps(identity))
    if path.exists():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BadFileError(f"{path}: not a run's settings: {error}") from error
        if {key: before.get(key) for key in identity} != identity:
            raise BadFileError(f"{folder}: holds a run with other settings or data; choose another folder or remove it")
        return
    record = {"command": command, **identity, "versions": versions(), "threads": torch.get_num_threads()}
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _write_history(path: Path, history: Sequence[Epoch]) -> None:
    targets = list(history[0].validation) if history else []
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["epoch", "learning_rate", "train_loss", "score", "seconds", *(f"validation_{t}" for t in targets)]
        )
        for e in history:
            row = [e.epoch, e.learning_rate, e.train_loss, e.score, e.seconds, *(e.validation[t] for t in targets)]
            writer.writerow(row)


def _results(trainer: Trainer, parts: Split) -> dict[str, Any]:
    """Errors of the best weights on each part, and of the median of the training set on the test part."""
    data = trainer.data
    results: dict[str, Any] = {
        "best_epoch": trainer.best_epoch,
        "epochs": len(trainer.history),
        "train_seconds": sum(epoch.seconds for epoch in trainer.history),
        "parameters": dict(trainer.model.num_parameters()),
        "errors": {},
        "median_model": {},
    }
    for part in PARTS:
        indices = getattr(parts, part)
        systems = [str(data.crystals[i].info.get("crystal_system") or "unknown") for i in indices]
        predicted = trainer.predict(indices)
        for target in data.targets:
            expected = data.tensors[target][indices].double().numpy()
            errors = results["errors"].setdefault(target, {})
            errors[part] = summarise(predicted[target].double().numpy(), expected, systems)
            if part == "test":
                median = median_tensor(data.tensors[target][parts.train].double().numpy())
                trivial = np.broadcast_to(median, expected.shape)
                results["median_model"][target] = summarise(trivial, expected, systems)
    return results

# SPDX-License-Identifier: MIT
"""The folder of a baseline's run, with the files of `dtnn-fast train`: settings, history, results, predictions."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dtnn_fast.data.crystal import Crystal
from dtnn_fast.data.splits import Split, split
from dtnn_fast.errors import BadFileError
from dtnn_fast.training.checkpoint import CHECKPOINT_FILE
from dtnn_fast.training.metrics import median_tensor, summarise
from dtnn_fast.training.predictions import PREDICTIONS_FILE, Predictions, save_predictions
from dtnn_fast.training.run import (
    HISTORY_FILE,
    RESULTS_FILE,
    SETTINGS_FILE,
    data_digest,
    known_elements,
    versions,
)

from .graphs import LabelledGraphs
from .models import ModelName, TrainingStatistics, make_model
from .recipes import Recipe
from .trainer import Epoch, Trainer

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class RunSettings:
    """What tells one run from another.

    Args:
        model: the baseline.
        target: "electronic", "ionic" or "total".
        seed: of the split, the weights and the order of crystals.
        recipe: settings of its training.
    """

    model: ModelName
    target: str
    seed: int
    recipe: Recipe


def train_run(
    settings: RunSettings,
    crystals: Sequence[Crystal],
    folder: Path,
    command: str = "",
    *,
    on_start: Callable[[Trainer], None] = lambda trainer: None,
    on_epoch: Callable[[Trainer, Epoch], None] = lambda trainer, epoch: None,
) -> dict[str, Any]:
    """Train a baseline in a run folder, or go on where the run in it stopped.

    Args:
        settings: of the run.
        crystals: labelled, cleaned and checked.
        folder: of the run; made when absent.
        command: the command line, for the record.
        on_start: called before the first epoch, when a checkpoint has been read.
        on_epoch: called after each epoch.

    Returns:
        What results.json holds.

    Raises:
        BadFileError: the folder holds a run with other settings or data, or a damaged one.
        MissingPackageError: the package of the model is not installed.
        DTNNError: the loss is no number any more.
    """
    _claim(folder, settings, crystals, command)
    parts = split([crystal.id for crystal in crystals], settings.seed)
    data = LabelledGraphs(crystals, settings.target, settings.recipe.cutoff)
    statistics = TrainingStatistics.of(*data.batch(parts.train), known_elements(crystals))
    torch.manual_seed(settings.seed)
    model = make_model(settings.model, settings.recipe.cutoff, statistics)
    trainer = Trainer(settings.recipe, model, data, parts, settings.seed, folder)
    on_start(trainer)
    for epoch in trainer.epochs():
        _write_history(folder / HISTORY_FILE, trainer.history, settings.target)
        on_epoch(trainer, epoch)
    trainer.load_best()
    predictions = _predictions(trainer, parts)
    save_predictions(folder / PREDICTIONS_FILE, predictions)
    results = _results(settings, trainer, parts, predictions)
    # Last, since this file says that the run is whole.
    (folder / RESULTS_FILE).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return results


def _claim(folder: Path, settings: RunSettings, crystals: Sequence[Crystal], command: str) -> None:
    """Write settings.json, or see that the one that is there belongs to this run."""
    data = {"crystals": len(crystals), "digest": data_digest(crystals)}
    identity = json.loads(json.dumps({"settings": asdict(settings), "data": data}))
    path = folder / SETTINGS_FILE
    if path.exists():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            same = {key: before[key] for key in identity} == identity
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadFileError(f"{path}: not a run's settings: {error!r}") from error
        if not same:
            raise BadFileError(f"{folder}: holds a run with other settings or data; choose another folder or remove it")
        return
    if (folder / CHECKPOINT_FILE).exists():
        raise BadFileError(f"{path}: missing beside a checkpoint; choose another folder or remove it")
    folder.mkdir(parents=True, exist_ok=True)
    surroundings = {"versions": _versions(), "threads": torch.get_num_threads()}
    record = {"command": command, "label": settings.model.label, **identity, **surroundings}
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _versions() -> dict[str, str]:
    found = versions()
    for name in ("e3nn", "matgl"):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _write_history(path: Path, history: Sequence[Epoch], target: str) -> None:
    """The columns of `dtnn-fast train`; its score is the validation error, as there is one target."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "learning_rate", "train_loss", "score", "seconds", f"validation_{target}"])
        for e in history:
            writer.writerow([e.epoch, e.learning_rate, e.train_loss, e.validation, e.seconds, e.validation])


def _predictions(trainer: Trainer, parts: Split) -> Predictions:
    """Of the best weights, for all crystals, the parts of the split one after the other."""
    data = trainer.data
    indices = np.concatenate([getattr(parts, part) for part in PARTS])
    return Predictions(
        [data.crystals[index].id for index in indices],
        [part for part in PARTS for _ in getattr(parts, part)],
        {data.target: trainer.predict(indices).double().numpy()},
        {data.target: data.tensors[indices].double().numpy()},
    )


def _results(settings: RunSettings, trainer: Trainer, parts: Split, predictions: Predictions) -> dict[str, Any]:
    """Errors on each part, and of the median of the training set on the test part."""
    target, crystals = settings.target, trainer.data.crystals
    systems = {
        part: [str(crystals[index].info.get("crystal_system") or "unknown") for index in getattr(parts, part)]
        for part in PARTS
    }
    errors = {}
    for part in PARTS:
        of_part = predictions.of_part(part)
        errors[part] = summarise(of_part.predicted[target], of_part.expected[target], systems[part])
    expected = predictions.of_part("test").expected[target]
    median = median_tensor(predictions.of_part("train").expected[target])
    return {
        "model": settings.model,
        "best_epoch": trainer.best_epoch,
        "epochs": len(trainer.history),
        "train_seconds": sum(epoch.seconds for epoch in trainer.history),
        "parameters": {"model": sum(p.numel() for p in trainer.model.parameters())},
        "errors": {target: errors},
        "median_model": {target: summarise(np.broadcast_to(median, expected.shape), expected, systems["test"])},
    }

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

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.datasets.splits import Split, split
from dtnn_fast.training.run_folder import (
    HISTORY_FILE,
    PREDICTIONS_FILE,
    RESULTS_FILE,
    SPLIT_PARTS,
    RunPredictions,
    data_digest,
    errors_of_parts,
    is_new,
    save_predictions,
    write_record,
)
from dtnn_fast.training.train_run import known_elements

from .graphs import LabelledGraphs
from .models import ModelName, TrainingStatistics, make_model
from .recipes import Recipe
from .trainer import Epoch, Trainer


@dataclass(frozen=True)
class RunSettings:
    """Settings that identify a run.

    Args:
        model: the baseline.
        targets: "electronic", "ionic" or "total", or all three, learned together.
        seed: seed of the split, the weights and the order of crystals.
        recipe: settings of its training.
    """

    model: ModelName
    targets: tuple[str, ...]
    seed: int
    recipe: Recipe


def train_run(
    settings: RunSettings,
    crystals: Sequence[Crystal],
    folder: Path,
    command: str = "",
    *,
    compiled: bool = False,
    on_start: Callable[[Trainer], None] = lambda trainer: None,
    on_epoch: Callable[[Trainer, Epoch], None] = lambda trainer, epoch: None,
) -> dict[str, Any]:
    """Train a baseline in a run folder, or resume the run in it.

    Args:
        settings: settings of the run.
        crystals: labelled, cleaned and checked.
        folder: folder of the run; created if missing.
        command: the command line, stored in settings.json.
        compiled: whether slow parts of the model are compiled, for the same results up to rounding.
        on_start: called before the first epoch, when a checkpoint has been read.
        on_epoch: called after each epoch.

    Returns:
        The content of results.json.

    Raises:
        BadFileError: the folder holds a run with other settings or data, or a damaged one.
        MissingPackageError: the package of the model is not installed.
        DTNNError: the loss is not finite, or nothing can be compiled.
    """
    run_key = _run_key(settings, crystals)
    new_run = is_new(folder, run_key)
    parts = split([crystal.id for crystal in crystals], settings.seed)
    data = LabelledGraphs(crystals, settings.targets, settings.recipe.cutoff)
    statistics = TrainingStatistics.of(*data.batch(parts.train), known_elements(crystals))
    torch.manual_seed(settings.seed)
    model = make_model(settings.model, settings.recipe.cutoff, statistics)
    if compiled:
        model.compile_parts()
    # Claim the folder only after all checks, so that a missing package does not occupy it.
    if new_run:
        write_record(folder, run_key, command, label=settings.model.label, packages=_packages())
    trainer = Trainer(settings.recipe, model, data, parts, settings.seed, folder)
    on_start(trainer)
    for epoch in trainer.epochs():
        _write_history(folder / HISTORY_FILE, trainer.history)
        on_epoch(trainer, epoch)
    trainer.load_best()
    predictions = _predictions(trainer, parts)
    save_predictions(folder / PREDICTIONS_FILE, predictions)
    results = _results(settings, trainer, predictions)
    # Last, since this file says that the run is whole.
    (folder / RESULTS_FILE).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return results


def _run_key(settings: RunSettings, crystals: Sequence[Crystal]) -> dict[str, Any]:
    """Return settings and data of a run, as they read back from JSON."""
    data = {"crystals": len(crystals), "digest": data_digest(crystals)}
    run_key: dict[str, Any] = json.loads(json.dumps({"settings": asdict(settings), "data": data}))
    return run_key


def _packages() -> dict[str, str]:
    """Return the versions of the third-party packages of the models."""
    found = {}
    for name in ("e3nn", "matgl"):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _write_history(path: Path, history: Sequence[Epoch]) -> None:
    """Write the history in the columns of `dtnn-fast train`."""
    targets = list(history[0].validation)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["epoch", "learning_rate", "train_loss", "score", "seconds", *(f"validation_{t}" for t in targets)]
        )
        for e in history:
            row = [e.epoch, e.learning_rate, e.train_loss, e.score, e.seconds, *(e.validation[t] for t in targets)]
            writer.writerow(row)


def _predictions(trainer: Trainer, parts: Split) -> RunPredictions:
    """Of the best weights, for all crystals, the parts of the split one after the other."""
    data = trainer.data
    indices = np.concatenate([getattr(parts, part) for part in SPLIT_PARTS])
    return RunPredictions(
        [data.crystals[index].id for index in indices],
        [part for part in SPLIT_PARTS for _ in getattr(parts, part)],
        {target: tensors.double().numpy() for target, tensors in trainer.predict(indices).items()},
        {target: tensors[indices].double().numpy() for target, tensors in data.tensors.items()},
    )


def _results(settings: RunSettings, trainer: Trainer, predictions: RunPredictions) -> dict[str, Any]:
    systems = {c.id: str(c.info.get("crystal_system") or "unknown") for c in trainer.data.crystals}
    return {
        "model": settings.model,
        "best_epoch": trainer.best_epoch,
        "epochs": len(trainer.history),
        "train_seconds": sum(epoch.seconds for epoch in trainer.history),
        "parameters": {"model": sum(parameter.numel() for parameter in trainer.model.parameters())},
        **errors_of_parts(predictions, systems),
    }

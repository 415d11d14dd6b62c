# SPDX-License-Identifier: MIT
"""A run folder: settings and versions, the history, checkpoints, the best model and its errors."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..crystals.crystal import Crystal
from ..datasets.splits import Split, split
from ..encoders.build import Encoder
from ..encoders.latent_cache import LatentTable, encoder_digest
from ..model.dtnn import DTNN
from .labelled_data import LabelledGraphs, LabelledLatents
from .member_predictions import MemberPredictions
from .run_folder import (
    HISTORY_FILE,
    MODEL_FOLDER,
    PARTS,
    PREDICTIONS_FILE,
    RESULTS_FILE,
    Predictions,
    claim,
    errors_of_parts,
    is_new,
    save_predictions,
)
from .trainer import Epoch, Trainer
from .training_settings import TrainingSettings


def data_digest(crystals: Sequence[Crystal]) -> str:
    """A short fingerprint of a data set: ids, structures and tensors, in any order."""
    lines = []
    for crystal in crystals:
        digest = hashlib.sha256(crystal.id.encode())
        for array in (crystal.atomic_numbers, crystal.positions, crystal.cell, *crystal.targets.values()):
            digest.update(np.ascontiguousarray(array).tobytes())
        lines.append(digest.hexdigest())
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()[:16]


def known_elements(crystals: Sequence[Crystal]) -> tuple[int, ...]:
    """The atomic numbers that occur."""
    return tuple(sorted({int(z) for crystal in crystals for z in crystal.atomic_numbers}))


def train_run(
    settings: TrainingSettings,
    crystals: Sequence[Crystal],
    folder: Path,
    command: str = "",
    *,
    label: str = "",
    encoder: Encoder | None = None,
    table: LatentTable | None = None,
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
        label: name of the model in the tables of dtnn-fast evaluate, for the record.
        encoder: to start from; None for one with random weights.
        table: latents of the crystals by this encoder, which then stays as it is.
        on_epoch: called after each epoch.
        on_batch: called after each batch.
        on_start: called before the first epoch, when a checkpoint has been read.

    Returns:
        What results.json holds: the errors on each part of the split for each target.

    Raises:
        BadFileError: the folder holds a run with other settings or data, or a damaged one.
        BadCrystalError: a crystal has no tensor to learn from.
        DTNNError: there are too few crystals, or the loss is no number any more.
    """
    settings = replace(
        settings,
        model=replace(settings.model, elements=known_elements(crystals)),
        frozen=table is not None,
        start="" if encoder is None else encoder_digest(encoder),
    )
    identity = _identity(settings, crystals)
    unclaimed = is_new(folder, identity)
    parts = split([crystal.id for crystal in crystals], settings.seed, settings.fold)
    trainer = Trainer(settings, labelled_data(settings, crystals, table), parts, folder, encoder=encoder)
    # Only now: crystals that cannot be used leave the folder free for the next attempt.
    if unclaimed:
        claim(folder, identity, command, label=label)
    on_start(trainer)
    for epoch in trainer.epochs(on_batch):
        _write_history(folder / HISTORY_FILE, trainer.history)
        on_epoch(trainer, epoch)
    model = trainer.load_best()
    predictions = _predictions(trainer, parts)
    systems = {crystal.id: str(crystal.info.get("crystal_system") or "unknown") for crystal in crystals}
    record = {
        "best_epoch": trainer.best_epoch,
        "epochs": len(trainer.history),
        "train_seconds": sum(epoch.seconds for epoch in trainer.history),
        "parameters": dict(model.num_parameters()),
    }
    if len(predictions) > 1:
        return _finish_ensemble(folder, model, predictions, systems, record)
    model.save(folder / MODEL_FOLDER)
    save_predictions(folder / PREDICTIONS_FILE, predictions[0])
    results = {**record, **errors_of_parts(predictions[0], systems)}
    (folder / RESULTS_FILE).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return results


def _finish_ensemble(
    folder: Path, model: DTNN, predictions: Sequence[Predictions], systems: Mapping[str, str], record: dict[str, Any]
) -> dict[str, Any]:
    """Of members that were trained together: the model with its error bars, each member's predictions, results."""
    together = MemberPredictions.stack(predictions)
    bars = together.error_bars()
    scales = tuple(bars[target]["scale"] for target in model.targets) if bars else ()
    whole = DTNN.from_modules(replace(model.config, error_scales=scales), model.encoder, cast(Any, model.decoders))
    whole.save(folder / MODEL_FOLDER)
    return together.write(folder, bars, systems, record)


def labelled_data(
    settings: TrainingSettings, crystals: Sequence[Crystal], table: LatentTable | None
) -> LabelledGraphs | LabelledLatents:
    """What a model of these settings learns from: graphs for its encoder, or the latents that it would have given.

    Args:
        settings: of the run.
        crystals: labelled, cleaned and checked.
        table: latents of the crystals; None where the encoder is trained.

    Raises:
        BadCrystalError: a crystal has no tensor to learn from.
    """
    targets, decoder = settings.model.targets, settings.model.decoder
    cutoffs = settings.model.encoder.cutoffs[: decoder.layer]
    if table is None:
        return LabelledGraphs(crystals, targets, cutoffs)
    return LabelledLatents(crystals, targets, cutoffs, table, decoder.bonds and not table.bond_counts)


def _identity(settings: TrainingSettings, crystals: Sequence[Crystal]) -> dict[str, Any]:
    """What tells runs apart, as it reads back from JSON: tuples have become lists."""
    data = {"crystals": len(crystals), "digest": data_digest(crystals)}
    identity: dict[str, Any] = json.loads(json.dumps({"settings": settings.to_json(), "data": data}))
    return identity


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


def _predictions(trainer: Trainer, parts: Split) -> list[Predictions]:
    """Of each member with the best weights, for the crystals of each part in the order of the split."""
    data = trainer.data
    names = [part for part in PARTS for _ in getattr(parts, part)]
    indices = np.concatenate([getattr(parts, part) for part in PARTS]).tolist()
    ids = [data.crystals[index].id for index in indices]
    predicted = {target: tensors.double().numpy() for target, tensors in trainer.predict_members(indices).items()}
    expected = {target: data.tensors[target][indices].double().numpy() for target in data.targets}
    return [
        Predictions(ids, names, {target: tensors[member] for target, tensors in predicted.items()}, expected)
        for member in range(trainer.model.config.members)
    ]

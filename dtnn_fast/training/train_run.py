# SPDX-License-Identifier: MIT
"""One training run in its folder: train or resume, then write the best model, its predictions and its errors."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..crystals.crystal import Crystal
from ..datasets.splits import Split, split_crystals
from ..encoders.build import Encoder
from ..encoders.latent_cache import LatentTable, encoder_digest
from ..errors import DTNNError
from ..model.dtnn import DTNN
from ..model.predictor import without_forbidden_ionic_parts
from ..model.training_set import TrainingSet, mean_scalars
from ..nn.graph import CrystalGraph
from ..nn.latents import AtomOrbits, EncodedCrystals
from .charge_errors import CHARGES_FILE, ChargePredictions
from .held_out import held_out_with_charges, without_held_out
from .labelled_data import make_labelled_data
from .member_predictions import MemberPredictions
from .partial_labels import LABELS_ARE_PREDICTED
from .run_folder import (
    HISTORY_FILE,
    MODEL_FOLDER,
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
from .trainer import EVALUATION_BATCH, Epoch, Trainer
from .training_settings import TrainingSettings
from .workers import ALONE, Workers


def train_run(
    settings: TrainingSettings,
    crystals: Sequence[Crystal],
    folder: Path,
    command: str = "",
    *,
    label: str = "",
    encoder: Encoder | None = None,
    latents: LatentTable | None = None,
    more: Sequence[Crystal] = (),
    on_epoch: Callable[[Trainer, Epoch], None] = lambda trainer, epoch: None,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
    on_start: Callable[[Trainer], None] = lambda trainer: None,
    workers: Workers = ALONE,
) -> dict[str, Any]:
    """Train in a run folder, or resume the run that it holds, and record everything there.

    Several processes call this with the same arguments; the first one writes.

    Args:
        settings: settings of the run; the model's elements are taken from the crystals.
        crystals: labelled, cleaned and checked.
        folder: folder of the run; created if missing.
        command: the command line, stored in settings.json.
        label: name of the model in the tables of dtnn-fast evaluate, stored in settings.json.
        encoder: encoder with the initial weights; None for random weights.
        latents: latents of the crystals by this encoder, which then stays frozen.
        more: further crystals to learn from, of which only some labels are known. They are no part of the split; those
            that are the same as a crystal for validation or testing are left out.
        on_epoch: called after each epoch.
        on_batch: called after each batch with the number of batches done and the number of all batches.
        on_start: called before the first epoch, after a checkpoint has been read.
        workers: the processes that train together, and the device of this one.

    Returns:
        The content of results.json: the errors on each part of the split for each target, and those of Born charges
        (`ChargePredictions.summary`) where the model has them. Empty in processes other than the first.

    Raises:
        BadFileError: the folder holds a run with other settings or data, or a damaged one.
        BadCrystalError: a crystal has no tensor to learn from.
        DTNNError: there are too few crystals, or the loss became NaN or infinite.
    """
    settings = replace(
        settings,
        model=replace(settings.model, elements=known_elements(crystals, more)),
        frozen=latents is not None,
        start_digest="" if encoder is None else encoder_digest(encoder),
    )
    run_key = _run_key(settings, crystals, more)
    new_run = is_new(folder, run_key)
    parts = _split(settings, crystals)
    held_out = [crystals[index] for part in (parts.test, parts.validation) for index in part]
    kept = without_held_out(more, held_out, by_system=settings.split_by == "systems")
    data = make_labelled_data(settings, crystals, latents, kept)
    learned = np.concatenate([parts.train, len(crystals) + np.arange(len(kept))])
    trainer = Trainer(settings, data, parts._replace(train=learned), folder, encoder=encoder, workers=workers)
    workers.wait()  # all processes must look for an earlier run before the first process starts a new one
    # Claim the folder only after all checks, so that a failed start does not occupy it.
    if new_run and workers.rank == 0:
        write_record(folder, run_key, command, label=label)
    on_start(trainer)
    for epoch in trainer.epochs(on_batch):
        if workers.rank == 0:
            _write_history(folder / HISTORY_FILE, trainer.history)
        on_epoch(trainer, epoch)
    model = trainer.load_best()
    predictions = _predict_members(trainer, parts)
    if workers.rank > 0:
        return {}
    model.cpu()
    model.training_set = _describe_training_set(trainer, model)
    systems = {crystal.id: str(crystal.info.get("crystal_system") or "unknown") for crystal in crystals}
    training_results = {
        "best_epoch": trainer.best_epoch,
        "epochs": len(trainer.history),
        "train_seconds": sum(epoch.seconds for epoch in trainer.history),
        "parameters": dict(model.num_parameters()),
    }
    if more:
        training_results["more_crystals"] = {"given": len(more), "learned_from": len(kept)}
    if settings.model.born_charges:
        charges = ChargePredictions.of(
            model, held_out_with_charges(crystals, parts, more, kept, settings.split_by == "systems")
        )
        charges.save(folder / CHARGES_FILE)
        training_results["born_charges"] = charges.summary()
    if len(predictions) > 1:
        return _finish_ensemble(folder, model, predictions, systems, training_results)
    model.save(folder / MODEL_FOLDER)
    save_predictions(folder / PREDICTIONS_FILE, predictions[0])
    results = {**training_results, **errors_of_parts(predictions[0], systems)}
    (folder / RESULTS_FILE).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return results


# Elements of the further crystals in fewer of them than this are not learned well enough to be offered.
_LEAST_CRYSTALS = 5


def known_elements(crystals: Sequence[Crystal], more: Sequence[Crystal] = ()) -> tuple[int, ...]:
    """List the atomic numbers that occur in the crystals, or in at least five of the further ones, in rising order.

    Further crystals count if they have a label that no model predicted.
    """
    known = [crystal for crystal in more if not crystal.info.get(LABELS_ARE_PREDICTED)]
    counts = Counter(z for crystal in known for z in set(crystal.atomic_numbers.tolist()))
    frequent = {z for z, count in counts.items() if count >= _LEAST_CRYSTALS}
    return tuple(sorted(frequent.union(*(crystal.atomic_numbers.tolist() for crystal in crystals))))


def _split(settings: TrainingSettings, crystals: Sequence[Crystal]) -> Split:
    try:
        return split_crystals(crystals, settings.split_by, settings.seed, settings.fold)
    except ValueError as error:
        if settings.split_by == "crystals":
            raise
        what = {"systems": "chemical system", "structures": "structure"}.get(settings.split_by, settings.split_by)
        raise DTNNError(f"train: the crystals cannot be split by {what}: {error}") from error


def _run_key(settings: TrainingSettings, crystals: Sequence[Crystal], more: Sequence[Crystal]) -> dict[str, Any]:
    """Return the entries of settings.json that tell runs apart, as they read back from JSON: tuples become lists."""

    def describe(given: Sequence[Crystal]) -> dict[str, Any]:
        return {"crystals": len(given), "digest": data_digest(given)}

    # Further crystals are no part of the data that runs are compared on.
    more_entry = describe(more) if more else None
    entries = {"settings": settings.to_json(), "data": describe(crystals), "more": more_entry}
    run_key: dict[str, Any] = json.loads(json.dumps(entries))
    return run_key


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


def _describe_training_set(trainer: Trainer, model: DTNN) -> TrainingSet:
    """Describe the training crystals, with latents of the trained encoder or of the table that a frozen one made.

    Those whose labels are all predictions of other models are left out: they say nothing about what is known.
    """
    crystals = trainer.data.crystals
    indices = [index for index in trainer.split.train.tolist() if not crystals[index].info.get(LABELS_ARE_PREDICTED)]
    latents = []
    with torch.no_grad():
        for start in range(0, len(indices), EVALUATION_BATCH):
            batch, _ = trainer.data.batch(indices[start : start + EVALUATION_BATCH])
            if isinstance(batch, CrystalGraph):
                batch = EncodedCrystals(model.encoder(batch), batch.ptr, batch, AtomOrbits.of(batch))
            weight = None if batch.orbits is None else batch.orbits.atom_weight
            latents.append(mean_scalars(batch.latents, batch.ptr, weight))
    return TrainingSet.of([crystals[index] for index in indices], np.concatenate(latents))


def _predict_members(trainer: Trainer, parts: Split) -> list[RunPredictions]:
    """Predict all crystals with the best weights of each member, in the order of `SPLIT_PARTS` and of the split."""
    data = trainer.data
    part_names = [part for part in SPLIT_PARTS for _ in getattr(parts, part)]
    indices = np.concatenate([getattr(parts, part) for part in SPLIT_PARTS]).tolist()
    crystals = [data.crystals[index] for index in indices]
    ids = [crystal.id for crystal in crystals]
    raw = {target: tensors.double().numpy() for target, tensors in trainer.predict_members(indices).items()}
    # As the saved model predicts them.
    predicted = without_forbidden_ionic_parts(crystals, raw)
    expected = {target: data.tensors[target][indices].double().numpy() for target in data.targets}
    return [
        RunPredictions(ids, part_names, {target: tensors[member] for target, tensors in predicted.items()}, expected)
        for member in range(trainer.model.config.members)
    ]


def _finish_ensemble(
    folder: Path,
    model: DTNN,
    predictions: Sequence[RunPredictions],
    systems: Mapping[str, str],
    training_results: dict[str, Any],
) -> dict[str, Any]:
    """Write a model whose members were trained together, with its error bars, predictions and results."""
    members = MemberPredictions.stack(predictions)
    bars = members.error_bars()
    own = [bars[target] for target in model.targets] if bars else []
    config = replace(
        model.config,
        tensor_calibrations=tuple(bar.tensor for bar in own),
        mean_calibrations=tuple(bar.mean for bar in own),
    )
    ensemble = DTNN.from_modules(config, model.encoder, dict(model.decoders.items()), like=model)
    ensemble.training_set = model.training_set
    ensemble.save(folder / MODEL_FOLDER)
    return members.write(folder, bars, systems, training_results)

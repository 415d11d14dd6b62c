# SPDX-License-Identifier: MIT
"""A distillation in its folder: settings, history, checkpoints, the encoder so far and how much it explains."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ..encoders.storage import save_encoder
from ..training.run_folder import claim, is_new
from .batches import LabelledShards
from .labels import RANKS, read_manifest
from .parallel import Workers
from .report import Explained
from .settings import DistillSettings
from .spreads import spreads_of
from .trainer import DistillTrainer, Progress

HISTORY_FILE, REPORT_FILE, ENCODER_FOLDER = "history.csv", "report.json", "encoder"


def distill_run(
    settings: DistillSettings,
    labels: Path,
    folder: Path,
    workers: Workers,
    command: str = "",
    *,
    record_every: int = 100,
    report_every: int = 10,
    on_start: Callable[[DistillTrainer], None] = lambda trainer: None,
    on_record: Callable[[DistillTrainer, Progress], None] = lambda trainer, record: None,
    on_report: Callable[[dict[str, list[Explained]]], None] = lambda explained: None,
) -> dict[str, list[Explained]]:
    """Train an encoder on labels, or go on where the run in the folder stopped.

    The first process writes a checkpoint at every record, and the encoder and its report at every tenth, so that a run
    may be stopped at any time and what it has reached be used.

    Args:
        settings: of the training.
        labels: folder that `labels.label` filled.
        folder: of the run; made when absent.
        workers: the processes that work together.
        command: the command line, for the record.
        record_every: steps between records.
        report_every: records between reports.
        on_start: called before the first step, when a checkpoint has been read.
        on_record: called at each record, in each process.
        on_report: called at each report, in the first process.

    Returns:
        The explained variance in the end, on the "real" and "made" crystals of held-out chemical systems.

    Raises:
        BadFileError: the folder holds another run, or the labels are damaged.
        DTNNError: the settings do not fit the labels, or the loss is no number any more.
    """
    manifest = read_manifest(labels)
    identity = json.loads(json.dumps({"settings": settings.to_json(), "labels": manifest, "processes": workers.count}))
    unclaimed = is_new(folder, identity)
    spreads = spreads_of(labels)
    names = sorted({f"{rank}_{match.theirs}" for match in settings.matches for rank in RANKS} & spreads.keys())
    shards = LabelledShards(labels, settings.encoder.cutoffs, names, settings.batch_atoms)
    trainer = DistillTrainer(settings, shards, spreads, folder, workers, record_every)
    workers.wait()  # nobody may look for a run in the folder when the first process has begun one
    if unclaimed and workers.rank == 0:
        claim(folder, identity, command)
    on_start(trainer)
    for record in trainer.records():
        if workers.rank == 0:
            trainer.checkpoint()
            _write_history(folder / HISTORY_FILE, trainer.history)
            if len(trainer.history) % report_every == 0 and not trainer.finished:
                on_report(_report(trainer, folder, manifest["teacher"]))
        on_record(trainer, record)
    explained = _report(trainer, folder, manifest["teacher"]) if workers.rank == 0 else trainer.evaluate()
    workers.wait()
    return explained


def _report(trainer: DistillTrainer, folder: Path, teacher: dict[str, Any]) -> dict[str, list[Explained]]:
    """Save the averaged encoder and how much it explains."""
    explained = trainer.evaluate()
    report = {
        "step": trainer.progress.step,
        "steps": trainer.num_steps,
        "seconds": trainer.progress.seconds,
        "training_crystals": trainer.shards.num_crystals,
        "training_loss": trainer.progress.loss,
        "held_out": {kind: [asdict(entry) for entry in entries] for kind, entries in explained.items()},
    }
    save_encoder(trainer.encoder(), folder / ENCODER_FOLDER, {**teacher, "report": report})
    unfinished = folder / (REPORT_FILE + ".part")
    unfinished.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    os.replace(unfinished, folder / REPORT_FILE)
    return explained


def _write_history(path: Path, history: Sequence[Progress]) -> None:
    names = [field.name for field in fields(Progress)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows([getattr(record, name) for name in names] for record in history)

# SPDX-License-Identifier: MIT
"""A distillation in its folder: settings, history, checkpoints, what was learned so far and how much it explains."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ..encoders.build import save_encoder
from ..errors import BadFileError
from ..files import read_json_object
from ..training.run_folder import SETTINGS_FILE, claim, is_new
from .batches import LabelledShards
from .distill_settings import DistillSettings
from .distill_trainer import DistillTrainer, Progress
from .energy_model import ENCODER_FOLDER, save_energy_head
from .energy_readout import fit_labels
from .held_out_report import HeldOut
from .labels import ENERGY, RANKS, read_manifest
from .student import spreads_of
from .workers import Workers

HISTORY_FILE, REPORT_FILE = "history.csv", "report.json"
_ENERGY_COLUMNS = ("training_mev", "real_mev", "real_explained", "made_mev", "made_explained")


def check_folder(folder: Path, settings: DistillSettings) -> None:
    """Refuse the folder of a run with other settings, which can be told before there are labels.

    Raises:
        BadFileError: it holds such a run.
    """
    path = folder / SETTINGS_FILE
    if path.exists() and read_json_object(path).get("settings") != json.loads(json.dumps(settings.to_json())):
        raise BadFileError(f"{folder}: holds a run with other settings; choose another folder or remove it")


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
    on_report: Callable[[dict[str, HeldOut]], None] = lambda held_out: None,
) -> dict[str, HeldOut]:
    """Train an encoder on labels, or go on where the run in the folder stopped.

    The first process writes a checkpoint at every record, and the encoder, the readout of energies where they are
    learned, and their report at every tenth, so that a run may be stopped at any time and what it has reached be used.

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
        What is explained in the end of the "real" and "made" crystals of held-out chemical systems.

    Raises:
        BadFileError: the folder holds another run, or the labels are damaged.
        DTNNError: the settings do not fit the labels, energies are to be learned from labels without any, or the loss
            is no number any more.
    """
    manifest = read_manifest(labels)
    identity = json.loads(json.dumps({"settings": settings.to_json(), "labels": manifest, "processes": workers.count}))
    unclaimed = is_new(folder, identity)
    spreads = spreads_of(labels)
    names = sorted({f"{rank}_{match.theirs}" for match in settings.matches for rank in RANKS} & spreads.keys())
    fit = fit_labels(labels) if settings.energy_weight else None
    names += [ENERGY] if fit else []
    shards = LabelledShards(labels, settings.encoder.cutoffs, names, settings.batch_atoms)
    trainer = DistillTrainer(settings, shards, spreads, folder, workers, record_every, fit)
    workers.wait()  # nobody may look for a run in the folder when the first process has begun one
    if unclaimed and workers.rank == 0:
        claim(folder, identity, command)
    on_start(trainer)
    held_out: dict[str, HeldOut] | None = None
    for record in trainer.records():
        if workers.rank == 0:
            # Before the checkpoint, which keeps the history: a run that is stopped in between makes the report again.
            if trainer.finished or len(trainer.history) % report_every == 0:
                held_out = _report(trainer, folder, manifest["teacher"])
                trainer.note(held_out)
                if not trainer.finished:
                    on_report(held_out)
            trainer.checkpoint()
            _write_history(folder / HISTORY_FILE, trainer.history)
        on_record(trainer, record)
    if held_out is None:  # another process, or a run that was finished before
        held_out = _report(trainer, folder, manifest["teacher"]) if workers.rank == 0 else trainer.evaluate()
    workers.wait()
    return held_out


def _report(trainer: DistillTrainer, folder: Path, teacher: dict[str, Any]) -> dict[str, HeldOut]:
    """Save what the moving average of the weights has learned, and how much it explains."""
    held_out = trainer.evaluate()
    report = {
        "step": trainer.progress.step,
        "steps": trainer.num_steps,
        "seconds": trainer.progress.seconds,
        "training_crystals": trainer.shards.num_crystals,
        "training_loss": trainer.progress.loss,
        "held_out": {kind: [asdict(entry) for entry in found.latents] for kind, found in held_out.items()},
    }
    student = trainer.averaged()
    if student.energy is not None:
        report["held_out_energies"] = {
            kind: asdict(found.energies) for kind, found in held_out.items() if found.energies is not None
        }
    record = {**teacher, "report": report}
    save_encoder(student.encoder.cpu(), folder / ENCODER_FOLDER, record)
    if student.energy is not None:
        save_energy_head(student.energy.head(), folder, record)
    unfinished = folder / (REPORT_FILE + ".part")
    unfinished.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    os.replace(unfinished, folder / REPORT_FILE)
    return held_out


def _write_history(path: Path, history: Sequence[Progress]) -> None:
    names = [field.name for field in fields(Progress) if field.name != "energies"]
    energies = _ENERGY_COLUMNS if any(record.energies for record in history) else ()
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*names, *energies])
        for record in history:
            values = [record.energies.get(name, "") for name in energies]
            writer.writerow([*(getattr(record, name) for name in names), *values])

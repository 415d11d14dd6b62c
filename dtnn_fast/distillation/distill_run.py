# SPDX-License-Identifier: MIT
"""A run of a distillation in its folder: settings, history, checkpoint, encoder, energy readout and report."""

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
from ..potentials.energy_model import ENCODER_FOLDER, save_energy_head
from ..training.run_folder import RUN_RECORD_FILE, is_new, write_record
from ..training.workers import Workers
from .batches import LabelledShards
from .distill_settings import DistillSettings
from .distill_trainer import DistillTrainer, ProgressRecord
from .held_out_report import HeldOutReport
from .labels import ENERGY, RANKS, fit_labelled_energies, read_manifest
from .student import label_statistics

HISTORY_FILE, REPORT_FILE = "history.csv", "report.json"
_ENERGY_COLUMNS = ("training_mev", "real_mev", "real_explained", "made_mev", "made_explained")


def check_folder(folder: Path, settings: DistillSettings) -> None:
    """Check before labelling starts that the folder holds no run with other settings.

    Raises:
        BadFileError: the folder holds such a run.
    """
    path = folder / RUN_RECORD_FILE
    if path.exists() and read_json_object(path).get("settings") != json.loads(json.dumps(settings.to_json())):
        raise BadFileError(f"{folder}: contains a run with other settings; choose another folder or delete it")


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
    on_record: Callable[[DistillTrainer, ProgressRecord], None] = lambda trainer, record: None,
    on_report: Callable[[dict[str, HeldOutReport]], None] = lambda held_out: None,
) -> dict[str, HeldOutReport]:
    """Train an encoder on labels, or continue the stopped run in the folder.

    The first process writes a checkpoint at every record, and at some of them the encoder, the energy readout where
    energies are learned, and the report. So a run can be stopped at any time, and its last encoder be used.

    Args:
        settings: settings of the training.
        labels: folder that `label_crystals` filled.
        folder: folder of the run; created if missing.
        workers: the processes that train together.
        command: the command line, for settings.json.
        record_every: number of steps between records.
        report_every: number of records between reports.
        on_start: called before the first step, after an existing checkpoint is loaded.
        on_record: called at each record, in each process.
        on_report: called at each report before the last, in the first process.

    Returns:
        Reports on the "real" and "made" crystals of held-out chemical systems at the end of the training.

    Raises:
        BadFileError: the folder holds another run, or the labels are damaged.
        DTNNError: the settings do not fit the labels, energies are to be learned from labels without energies, or the
            loss became infinite or NaN.
    """
    manifest = read_manifest(labels)
    run_key = json.loads(
        json.dumps({"settings": settings.to_json(), "labels": manifest, "processes": workers.num_processes})
    )
    new_run = is_new(folder, run_key)
    statistics = label_statistics(labels)
    label_names = sorted({f"{rank}_{match.theirs}" for match in settings.matches for rank in RANKS} & statistics.keys())
    fit = fit_labelled_energies(labels) if settings.energy_weight else None
    label_names += [ENERGY] if fit else []
    shards = LabelledShards(labels, settings.encoder.cutoffs, label_names, settings.batch_atoms, reduced=True)
    trainer = DistillTrainer(settings, shards, statistics, folder, workers, record_every, fit)
    workers.wait()  # all processes must look for an earlier run before the first process starts a new one
    if new_run and workers.rank == 0:
        write_record(folder, run_key, command)
    on_start(trainer)
    held_out: dict[str, HeldOutReport] | None = None
    for record in trainer.train():
        if workers.rank == 0:
            # The checkpoint, which keeps the history, comes last: a run stopped before it makes the report again.
            if trainer.finished or len(trainer.history) % report_every == 0:
                held_out = _write_report(trainer, folder, manifest["teacher"])
                trainer.add_to_history(held_out)
                if not trainer.finished:
                    on_report(held_out)
            trainer.write_checkpoint()
            _write_history(folder / HISTORY_FILE, trainer.history)
        on_record(trainer, record)
    if held_out is None:  # another process, or a run that was finished before
        held_out = _write_report(trainer, folder, manifest["teacher"]) if workers.rank == 0 else trainer.evaluate()
    workers.wait()
    return held_out


def _write_report(trainer: DistillTrainer, folder: Path, teacher: dict[str, Any]) -> dict[str, HeldOutReport]:
    """Write encoder and energy readout with the averaged weights, and report.json."""
    held_out = trainer.evaluate()
    report = {
        "step": trainer.progress.step,
        "steps": trainer.num_steps,
        "seconds": trainer.progress.seconds,
        "training_crystals": trainer.shards.num_crystals,
        "training_loss": trainer.progress.loss,
        "held_out": {
            source: [asdict(layer) for layer in source_report.latents] for source, source_report in held_out.items()
        },
    }
    student = trainer.averaged_student()
    if student.energy is not None:
        report["held_out_energies"] = {
            source: asdict(source_report.energies)
            for source, source_report in held_out.items()
            if source_report.energies is not None
        }
    record = {**teacher, "report": report}
    save_encoder(student.encoder.cpu(), folder / ENCODER_FOLDER, record)
    if student.energy is not None:
        save_energy_head(student.energy.head(), folder, record)
    unfinished = folder / (REPORT_FILE + ".part")
    unfinished.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    os.replace(unfinished, folder / REPORT_FILE)
    return held_out


def _write_history(path: Path, history: Sequence[ProgressRecord]) -> None:
    columns = [field.name for field in fields(ProgressRecord) if field.name != "energies"]
    energy_columns = _ENERGY_COLUMNS if any(record.energies for record in history) else ()
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, *energy_columns])
        for record in history:
            energies = [record.energies.get(name, "") for name in energy_columns]
            writer.writerow([*(getattr(record, name) for name in columns), *energies])

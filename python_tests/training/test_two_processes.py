# SPDX-License-Identifier: MIT
"""Two processes train as one does: the same losses, weights and files; an error in one of them ends both."""

from __future__ import annotations

import csv
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from model_cases import TINY, config, small_crystals
from processes import torchrun
from safetensors.torch import load_file

from dtnn_fast.datasets.splits import split
from dtnn_fast.symmetry import with_operations
from dtnn_fast.training.train_run import train_run
from dtnn_fast.training.training_settings import TrainingSettings
from dtnn_fast.training.workers import ALONE, join_workers

# The last batch has one crystal, fewer than processes.
CRYSTALS = small_crystals(26, max_atoms=4)
MODEL = config(2, channels=TINY, latent=8, dropout=0.0)
SETTINGS = TrainingSettings(MODEL, epochs=4, batch_size=7, learning_rate=1e-2, average=0.5)
FORMS = ("plain", "reduced", "ensemble")


def run(form, folder, group=ALONE, **more):
    settings = SETTINGS
    if form == "ensemble":
        settings = replace(SETTINGS, model=replace(MODEL, members=3, targets=("electronic", "total")))
    crystals = CRYSTALS if form == "plain" else with_operations(CRYSTALS)
    return train_run(settings, crystals, folder, workers=group, **more)


class StoppedError(Exception):
    pass


def stop(trainer, epoch):
    trainer.checkpoint()
    raise StoppedError


def main(task, folder):
    with join_workers() as group:
        assert group.num_processes == 2
        if task == "fail":

            def fail(trainer, epoch):
                if group.rank == 1:
                    raise ValueError("a fault of the second process")

            run("plain", Path(folder), group, on_epoch=fail)
        for form in FORMS:
            place = Path(folder) / form
            with pytest.raises(StoppedError):
                run(form, place, group, on_epoch=stop)
            group.wait()
            results = run(form, place, group)
            assert bool(results) == (group.rank == 0)


def history(folder):
    with (folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name != "seconds"]
    return np.array([[float(row[name]) for name in names] for row in rows])


def test_two_processes_give_the_losses_and_weights_of_one(tmp_path):
    assert len(split([crystal.id for crystal in CRYSTALS], 0).train) % SETTINGS.batch_size == 1
    done = torchrun(tmp_path, __file__, "train", tmp_path / "two")
    assert done.returncode == 0, done.stderr[-3000:]
    for form in FORMS:
        one, two = tmp_path / "one" / form, tmp_path / "two" / form
        run(form, one)
        assert {path.name for path in two.iterdir()} == {path.name for path in one.iterdir()}
        np.testing.assert_allclose(history(two), history(one), rtol=2e-4)
        assert len(history(two)) == 4
        first, second = (load_file(place / "model" / "model.safetensors") for place in (one, two))
        for name, value in first.items():
            torch.testing.assert_close(second[name], value, rtol=1e-2, atol=1e-3)


def test_a_fault_in_one_process_ends_both(tmp_path):
    start = time.monotonic()
    done = torchrun(tmp_path, __file__, "fail", tmp_path / "run")
    assert done.returncode != 0
    assert "a fault of the second process" in done.stderr
    assert time.monotonic() - start < 120
    assert not (tmp_path / "run" / "results.json").exists()

# SPDX-License-Identifier: MIT
"""Runs of the baselines: they resume to the bit, leave what `dtnn-fast evaluate` reads, and queue up."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accuracy.models import ModelName
from accuracy.recipes import RECIPES, Cosine, Plateau, Schedule, recipe
from accuracy.run import RunSettings, train_run
from accuracy.train import app
from accuracy.trainer import Epoch, Trainer
from model_cases import labelled, one_thread  # noqa: F401  a fixture that every test uses
from typer.testing import CliRunner

from dtnn_fast.errors import BadFileError
from dtnn_fast.evaluation.runs import read_run
from dtnn_fast.model.dtnn import TARGETS
from dtnn_fast.training.metrics import crystal_errors

ROOT = Path(__file__).parents[2]
PACKAGES = {ModelName.painn: "torch", ModelName.matten: "e3nn", ModelName.m3gnet: "matgl"}
CRYSTALS = [crystal for crystal in labelled() if crystal.num_atoms <= 3][:20]


def settings(name: ModelName = ModelName.painn, epochs: int = 2, **more) -> RunSettings:
    return RunSettings(name, TARGETS, 0, replace(RECIPES[name], batch_size=8, cutoff=4.0, epochs=epochs, **more))


def stop_after_first(trainer: Trainer, epoch: Epoch) -> None:
    trainer.checkpoint()
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", list(ModelName))
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(name, tmp_path):
    pytest.importorskip(PACKAGES[name])
    # Schedules that change the learning rate at once, so that it must be kept as well.
    schedule = Cosine(3, 0.1) if name is ModelName.m3gnet else Plateau(0.5, patience=0, threshold=10.0)
    run = settings(name, 3, schedule=schedule)
    seen: list[Trainer] = []
    whole = train_run(run, CRYSTALS, tmp_path / "whole", on_start=seen.append)
    with pytest.raises(KeyboardInterrupt):
        train_run(run, CRYSTALS, tmp_path / "parts", on_epoch=stop_after_first)
    parts = train_run(run, CRYSTALS, tmp_path / "parts", on_start=seen.append)

    first, second = (trainer.model.state_dict() for trainer in seen)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert whole["errors"] == parts["errors"]
    rates = [epoch.learning_rate for epoch in seen[0].history]
    assert len(set(rates)) > 1
    for trainer in seen:
        assert [replace(e, seconds=0.0) for e in trainer.history] == [replace(e, seconds=0.0) for e in seen[0].history]
    again = train_run(run, CRYSTALS, tmp_path / "parts")  # a finished run is not trained any further
    assert (again["epochs"], again["errors"]) == (3, parts["errors"])


def test_a_run_leaves_settings_history_results_and_predictions(tmp_path):
    results = train_run(settings(), CRYSTALS, tmp_path, command="the command")
    assert json.loads((tmp_path / "results.json").read_text()) == results
    record = json.loads((tmp_path / "settings.json").read_text())
    assert (record["label"], record["command"]) == ("PaiNN", "the command")
    assert {"torch", "numpy"} <= set(record["versions"])
    assert (record["settings"]["seed"], record["settings"]["targets"]) == (0, list(TARGETS))
    assert record["data"]["crystals"] == len(CRYSTALS)
    history = np.genfromtxt(tmp_path / "history.csv", delimiter=",", names=True)
    assert list(history["epoch"]) == [1, 2]

    run = read_run(tmp_path)  # as dtnn-fast evaluate does
    assert (run.model, run.seed, run.is_baseline) == ("PaiNN", 0, True)
    predictions = run.predictions
    assert set(predictions.predicted) == set(TARGETS)
    np.testing.assert_allclose(
        predictions.predicted["total"], predictions.predicted["electronic"] + predictions.predicted["ionic"], rtol=1e-5
    )
    by_id = {crystal.id: crystal.targets for crystal in CRYSTALS}
    assert set(predictions.ids) == set(by_id)
    spreads = {}
    best = history["score"].argmin()
    for target in TARGETS:
        expected = np.array([by_id[id][target] for id in predictions.ids])
        np.testing.assert_allclose(predictions.expected[target], expected, rtol=1e-6)
        for part, count in (("train", 16), ("validation", 2), ("test", 2)):
            part_predictions = predictions.select_part(part)
            assert len(part_predictions.ids) == count
            errors = crystal_errors(part_predictions.predicted[target], part_predictions.expected[target])
            found = results["errors"][target][part]["all"]["mae_ten"]
            assert found == pytest.approx(errors["mae_ten"].mean())
            if part == "validation":
                assert found == pytest.approx(history[f"validation_{target}"][best], rel=1e-5)
        means = predictions.select_part("train").expected[target].trace(axis1=1, axis2=2) / 3
        # torch's median is the lower one of an even number
        spreads[target] = np.abs(means - np.sort(means)[(len(means) - 1) // 2]).mean()
    # The score is the loss of DTNN: errors over the spreads of the training tensors.
    expected_scores = sum(history[f"validation_{target}"] / spread for target, spread in spreads.items())
    np.testing.assert_allclose(history["score"], expected_scores, rtol=1e-5)


def test_a_single_target_is_learned_alone(tmp_path):
    results = train_run(replace(settings(), targets=("ionic",)), CRYSTALS, tmp_path)
    assert set(results["errors"]) == {"ionic"}
    history = np.genfromtxt(tmp_path / "history.csv", delimiter=",", names=True)
    np.testing.assert_array_equal(history["score"], history["validation_ionic"])


@pytest.mark.parametrize("name", list(ModelName))
def test_the_short_schedule_ends_with_its_epochs(name):
    authors = RECIPES[name]
    assert recipe(name, Schedule.authors) == authors
    assert recipe(name, Schedule.authors, 7) == replace(authors, epochs=7)
    for epochs in (None, 7):
        short = recipe(name, Schedule.short, epochs)
        assert short.schedule == Cosine(epochs or 120, 0.01)
        assert short.epochs == short.patience == short.schedule.epochs
        assert replace(short, schedule=authors.schedule, epochs=1000, patience=authors.patience) == authors


def test_a_folder_of_another_or_a_damaged_run_is_left_alone(tmp_path):
    train_run(settings(epochs=1), CRYSTALS, tmp_path)
    before = (tmp_path / "results.json").read_bytes()
    with pytest.raises(BadFileError, match="other settings or data"):
        train_run(settings(epochs=2), CRYSTALS, tmp_path)
    with pytest.raises(BadFileError, match="other settings or data"):
        train_run(settings(epochs=1), CRYSTALS[:-1], tmp_path)
    assert (tmp_path / "results.json").read_bytes() == before
    (tmp_path / "checkpoint.safetensors").write_bytes(b"nonsense")
    with pytest.raises(BadFileError, match="not a complete checkpoint"):
        train_run(settings(epochs=1), CRYSTALS, tmp_path)
    (tmp_path / "settings.json").write_text("[]")
    answer = CliRunner().invoke(app, ["painn", "--target", "joint", "--split", "0", "--output", str(tmp_path)])
    assert answer.exit_code == 2
    assert "expected a JSON object" in answer.output


# Stands in for python: prints its arguments, and fails for one of the models.
STAND_IN = """#!/usr/bin/env bash
while [ "$1" != benchmarks.accuracy.train ]; do shift; done
echo "asked for $2 $4 $6"
[ "$2" = matten ] && exit 7
echo "{}" > "$8/results.json"
"""


def test_the_queue_skips_what_is_finished_and_survives_failures(tmp_path):
    stand_in, runs = tmp_path / "python", tmp_path / "runs"
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(stand_in), "SPLITS": "0 1", "TARGETS": "joint ionic"}

    def queue() -> subprocess.CompletedProcess[str]:
        command = ["bash", str(ROOT / "benchmarks/accuracy/run_all.sh"), str(runs)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)

    first = queue()
    assert first.returncode == 1
    assert "done, 4 failed" in first.stdout
    asked = [line.split(maxsplit=1)[1] for line in first.stdout.splitlines() if " split " in line]
    all_runs = [f"{m} {t} split {s}" for s in (0, 1) for t in ("joint", "ionic") for m in ("painn", "matten", "m3gnet")]
    assert asked == all_runs
    assert (runs / "m3gnet" / "ionic" / "split-1" / "results.json").exists()
    assert (runs / "matten" / "joint" / "split-0" / "train.log").read_text() == "asked for matten joint 0\n"
    with (runs / "matten" / "joint" / "split-0" / "queue.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as another queue that is at this run
        second = queue()
    assert second.stdout.count(" split ") == 3  # the others that failed, and no more

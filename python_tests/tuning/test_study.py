# SPDX-License-Identifier: MIT
"""The search: its first trial, continuing after an interruption, and files that it refuses."""

import csv
import json
import math
import sqlite3
import sys

import numpy as np
import pytest

from dtnn_fast.datasets.splits import Split
from dtnn_fast.errors import BadFileError, DTNNError, MissingPackageError
from dtnn_fast.training.trainer import Epoch
from dtnn_fast.training.training_settings import TrainingSettings
from dtnn_fast.tuning.objective import Objective
from dtnn_fast.tuning.search_space import values_of
from dtnn_fast.tuning.study import Study, best_settings, write_best, write_trials

pytest.importorskip("optuna")

BASE = TrainingSettings(epochs=4)
SPLITS = {0: Split(np.arange(2), np.arange(2, 4), np.arange(4, 20))}
IDENTITY = {"data": "these", "seeds": [0]}


class FakeTrainer:
    """A trainer whose error is the distance of the learning rate from 1e-3 in decades, and falls with the epochs."""

    def __init__(self, settings, parts):
        self.settings, self.history, self.best_epoch, self.best_score = settings, [], 0, math.inf
        self.error = 0.1 + abs(math.log10(settings.learning_rate) + 3)

    def epochs(self):
        for number in range(1, self.settings.epochs + 1):
            score = self.error * (1 + 1 / number)
            self.history.append(Epoch(number, 0.0, 0.0, {"total": score}, score, 0.0))
            self.best_epoch, self.best_score = number, score
            yield self.history[-1]


def objective(make=FakeTrainer, fixed=None):
    return Objective(BASE, fixed or {}, SPLITS, make)


def study(folder, identity=IDENTITY):
    return Study(folder, identity, BASE.epochs)


def test_the_search_starts_from_the_base_and_gets_better(tmp_path):
    made = study(tmp_path / "new")
    told = []
    made.search(objective(), 12, on_trial=told.append)
    trials = made.finished
    assert [trial.number for trial in trials] == list(range(12)) == [trial.number for trial in told]
    assert trials[0].params == values_of(BASE)
    assert trials[0].value == pytest.approx(1.1 * 1.25)
    assert made.best.value < trials[0].value
    assert made.best.value == min(t.value for t in trials if t.state.name == "COMPLETE")
    assert (tmp_path / "new" / "study.db").exists()


def test_fixed_settings_are_not_searched(tmp_path):
    made = study(tmp_path)
    made.search(objective(fixed={"layer": "2", "learning_rate": 1e-3}), 3)
    assert all("layer" not in trial.params and "learning_rate" not in trial.params for trial in made.finished)
    settings = best_settings(BASE, made.best, {"layer": "2", "learning_rate": 1e-3})
    assert (settings.model.decoder.layer, settings.learning_rate) == (2, 1e-3)
    assert made.best.value == pytest.approx(0.1 * 1.25)


def test_bad_trials_are_given_up_early(tmp_path):
    """From the sixth trial on, a trial that is worse than the median of the others is not trained to the end."""
    made = study(tmp_path)
    made.search(objective(), 16)
    given_up = [trial for trial in made.finished if trial.state.name == "PRUNED"]
    assert given_up
    assert all(len(trial.intermediate_values) < BASE.epochs for trial in given_up)
    assert min(trial.number for trial in given_up) >= 5


def test_the_same_folder_goes_on(tmp_path):
    study(tmp_path).search(objective(), 4)
    again = study(tmp_path)
    before = [trial.params for trial in again.finished]
    again.search(objective(), 4)
    assert [trial.params for trial in again.finished] == before
    again.search(objective(), 6)
    after = [trial.params for trial in again.finished]
    assert after[:4] == before
    assert len(after) == 6
    assert len({json.dumps(params) for params in after}) == 6  # no numbers drawn twice


@pytest.mark.parametrize("stop", [KeyboardInterrupt, DTNNError])
def test_an_interrupted_trial_is_begun_again(tmp_path, stop):
    seen = []

    def make(settings, parts):
        seen.append(values_of(settings))
        if len(seen) == 3:
            raise stop("now")
        return FakeTrainer(settings, parts)

    with pytest.raises(stop):
        study(tmp_path).search(objective(make), 5)
    again = study(tmp_path)
    assert len(again.finished) == 2
    again.search(objective(make), 5)
    assert len(again.finished) == 5
    assert seen[3] == seen[2]
    assert again.finished[2].params == seen[2]


def test_trials_whose_loss_is_no_number_are_counted_with_the_reason(tmp_path):
    class Diverging(FakeTrainer):
        def epochs(self):
            yield from super().epochs()
            raise DTNNError("train: the loss became nan in epoch 5")

    made = study(tmp_path)
    made.search(objective(Diverging), 2)
    assert made.best is None
    assert [trial.user_attrs["reason"] for trial in made.finished] == ["train: the loss became nan in epoch 5"] * 2


def test_a_study_of_other_data_is_left_alone(tmp_path):
    study(tmp_path).search(objective(), 1)
    before = (tmp_path / "study.db").read_bytes()
    with pytest.raises(BadFileError, match=r"study\.db: contains a search with other settings or data"):
        study(tmp_path, {**IDENTITY, "data": "others"})
    assert (tmp_path / "study.db").read_bytes() == before
    assert len(study(tmp_path).finished) == 1


@pytest.mark.parametrize("content", [b"nonsense" * 100, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "study.db").write_bytes(content)
    with pytest.raises(BadFileError, match=r"study\.db: damaged, not a study, or cannot be written"):
        study(tmp_path)


def test_folders_of_any_name(tmp_path):
    folder = tmp_path / "a?b %c#ü"
    study(folder).search(objective(), 1)
    assert len(study(folder).finished) == 1
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_without_optuna_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingPackageError, match=r'pip install "dtnn-fast\[tune\]"'):
        study(tmp_path)
    assert not list(tmp_path.iterdir())


def test_records(tmp_path):
    made = study(tmp_path)
    made.search(objective(fixed={"layer": "3"}), 8)
    write_trials(tmp_path / "trials.csv", made.finished, {"layer": "3"})
    with (tmp_path / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["trial"]) for row in rows] == list(range(8))
    assert {row["layer"] for row in rows} == {"3"}
    best = min((row for row in rows if row["state"] == "complete"), key=lambda row: float(row["validation_error"]))
    settings = best_settings(BASE, made.best, {"layer": "3"})
    write_best(tmp_path / "best.json", made.best, settings, "dtnn-fast train", {"trials": 8})
    record = json.loads((tmp_path / "best.json").read_text())
    assert record["trial"] == int(best["trial"])
    assert record["validation_error"] == pytest.approx(float(best["validation_error"]))
    assert record["splits"]["0"]["best_epoch"] == 4
    assert TrainingSettings.from_json(record["settings"]) == settings
    assert record["values"] == values_of(settings)
    assert (record["train_command"], record["trials"]) == ("dtnn-fast train", 8)


def test_a_study_that_lost_its_values_is_named(tmp_path):
    study(tmp_path).search(objective(), 2)
    with sqlite3.connect(tmp_path / "study.db") as database:
        database.execute("DELETE FROM trial_values")
    database.close()
    with pytest.raises(BadFileError, match=r"study\.db: damaged: a finished trial has no value"):
        study(tmp_path)

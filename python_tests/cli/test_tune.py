# SPDX-License-Identifier: MIT
"""dtnn-fast tune: a short search, going on with it, and its command that trains."""

import csv
import json
import shlex
import sys
import tomllib
from dataclasses import replace

import pytest

from dtnn_fast.training.training_settings import TrainingSettings
from dtnn_fast.tuning.objective import Objective
from dtnn_fast.tuning.search_space import values_of

pytest.importorskip("optuna")

SMALL = ["--set", "encoder.channels=8,4,4", "--epochs", "1", "--fix", "latent=32", "--fix", "blocks=1"]


def trials(folder):
    with (folder / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def test_search_go_on_and_train(program, few_crystals, tmp_path):
    folder = tmp_path / "tuning"
    arguments = ["tune", few_crystals, "--target", "all", "--joint", "--splits", "0-1", "--output", folder, *SMALL]
    first = program(*arguments, "--trials", 2)
    assert first.exit_code == 0, first.stderr
    assert "30 crystals, 0 rejected; 0 trials so far" in first.stderr
    assert "The best of 2 trials" in first.stdout
    rows = trials(folder)
    assert [row["state"] for row in rows] == ["complete", "complete"]
    assert (rows[0]["layer"], rows[0]["latent"], rows[0]["blocks"]) == ("4", "32", "1")
    assert float(rows[0]["learning_rate"]) == 1e-4

    again = program(*arguments, "--trials", 3)
    assert "2 trials so far" in again.stderr
    assert trials(folder)[:2] == rows
    record = json.loads((folder / "best.json").read_text())
    assert record["validation_error"] == min(float(row["validation_error"]) for row in trials(folder))
    assert record["splits"].keys() == {"0", "1"}
    assert record["splits"]["0"]["validation"].keys() == {"electronic", "ionic", "total"}
    assert record["train_command"] in again.stdout.splitlines()

    words = shlex.split(record["train_command"])
    assert words == ["dtnn-fast", "train", "--config", str(folder / "best.toml")]
    trained = program(*words[1:], "--output", tmp_path / "run")
    assert trained.exit_code == 0, trained.stderr
    settings = json.loads((tmp_path / "run" / "split-0" / "settings.json").read_text())["settings"]
    found, wanted = TrainingSettings.from_json(settings), TrainingSettings.from_json(record["settings"])
    assert values_of(found) == values_of(wanted)
    assert (found.epochs, found.patience, found.clip_norm) == (wanted.epochs, wanted.patience, wanted.clip_norm)
    assert replace(found.model, elements=()) == wanted.model


def test_ctrl_c_keeps_the_study(program, few_crystals, tmp_path, monkeypatch):
    arguments = ["tune", few_crystals, "--output", tmp_path, "--trials", 2, *SMALL]
    call = Objective.__call__

    def interrupted(self, trial):
        if trial.number == 1:
            raise KeyboardInterrupt
        return call(self, trial)

    with monkeypatch.context() as patch:
        patch.setattr(Objective, "__call__", interrupted)
        stopped = program(*arguments)
    assert stopped.exit_code == 130
    assert "stopped after 1 trial, kept in" in stopped.stderr
    assert json.loads((tmp_path / "best.json").read_text())["trial"] == 0
    assert program(*arguments).exit_code == 0
    assert len(trials(tmp_path)) == 2


def test_an_encoder_with_three_layers(program, few_crystals, tmp_path):
    arguments = ["tune", few_crystals, "--encoder", "distilled", "--cache", tmp_path / "cache", "--epochs", 1]
    searched = program(*arguments, "--trials", 1, "--output", tmp_path / "searched")
    assert searched.exit_code == 0, searched.stderr
    assert trials(tmp_path / "searched")[0]["layer"] == "3"
    fixed = program(*arguments, "--trials", 1, "--output", tmp_path / "fixed", "--fix", "layer=1-3")
    assert fixed.exit_code == 0, fixed.stderr
    best = tomllib.loads((tmp_path / "fixed" / "best.toml").read_text())
    assert (best["encoder"]["name"], best["decoder"]["layers"]) == ("distilled", [1, 2, 3])
    above = program(*arguments, "--output", tmp_path / "above", "--fix", "layer=4")
    assert above.exit_code == 2
    assert "expected `layer` to be one of 1, 2, 3, 1-2, 1-3, got '4'" in above.stderr


def test_another_search_does_not_mix(program, few_crystals, tmp_path):
    arguments = ["tune", few_crystals, "--output", tmp_path, "--trials", 1, *SMALL]
    assert program(*arguments).exit_code == 0
    other = program(*arguments, "--fix", "layer=2")
    assert other.exit_code == 2
    assert "contains a search with other settings or data" in other.stderr
    assert other.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fix", "layer=9"], "`layer` to be one of 1, 2, 3, 4, 5, 1-4, 1-5, got '9'"),
        (["--encoder", "pfp"], "--encoder"),
    ],
)
def test_bad_options(program, tmp_path, arguments, message):
    result = program("tune", *arguments, "--output", tmp_path / "new")
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "new").exists()


def test_without_optuna_it_says_what_to_install(program, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    result = program("tune", "--output", tmp_path / "new")
    assert result.exit_code == 2
    assert 'pip install "dtnn-fast[tune]"' in result.stderr
    assert not (tmp_path / "new").exists()

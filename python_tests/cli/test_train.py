# SPDX-License-Identifier: MIT
"""dtnn-fast train: a short run, what it leaves, and going on with it."""

import csv
import json

import numpy as np
import pytest

from dtnn_fast.cli.options import parse_splits
from dtnn_fast.cli.progress import TrainingProgress
from dtnn_fast.model.dtnn import DTNN

SMALL = [
    *("--set", "encoder.channels=8,4,4", "--set", "decoder.latent=8", "--set", "decoder.dropout=0"),
    *("--learning-rate", "0.01"),
]


@pytest.fixture
def data(tmp_path, labelled, row_of):
    """Thirty crystals, one of them outside of the cleaning rule, one twice, one without labels, one broken line."""
    inside = [c for c in labelled if np.abs(c.targets["total"]).max() < 90 and c.num_atoms < 6][:30]
    outside = next(c for c in labelled if c.targets["total"].max() > 100)
    unlabelled = {**row_of(inside[0]), "id": "no-label"}
    del unlabelled["eps_total"]
    rows = [*map(row_of, inside), row_of(outside), row_of(inside[3]), unlabelled]
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join([*map(json.dumps, rows), "{broken", ""]))
    return path


def reasons(folder):
    with (folder / "rejected.csv").open() as file:
        return [row["reason"] for row in csv.DictReader(file)]


def test_train_then_nothing_left_to_do(program, data, tmp_path):
    folder = tmp_path / "run"
    arguments = ["train", data, "--target", "all", "--epochs", 2, "--output", folder, *SMALL]
    first = program(*arguments)
    assert first.exit_code == 0
    assert "30 crystals to learn from, 4 rejected" in first.stderr
    assert "24 training, 3 validation, 3 test" in first.stderr
    assert "Test errors, seed 0: ionic" in first.stdout
    found = " | ".join(reasons(folder))
    for reason in ("outside [-10, 100]", "its id occurs more than once", "no label", "not valid JSON"):
        assert reason in found
    model = DTNN.from_pretrained(folder / "model")
    assert model.config.targets == ("electronic", "ionic", "total")
    counts = model.num_parameters()
    assert f"encoder {counts['encoder']:,}, decoder {counts['decoder']:,} for each of 3 targets" in first.stderr
    results = json.loads((folder / "results.json").read_text())
    assert results["epochs"] == 2
    again = program(*arguments)
    assert "already finished after epoch 2" in again.stderr
    before, after = results["errors"], json.loads((folder / "results.json").read_text())["errors"]
    assert after == before


def test_stopped_run_goes_on_to_the_same_result(program, data, tmp_path, monkeypatch):
    arguments = ["train", data, "--epochs", 3, *SMALL, "--output"]
    whole = program(*arguments, tmp_path / "whole")
    assert whole.exit_code == 0

    on_batch = TrainingProgress.on_batch

    def interrupt_in_epoch_2(self, done, total):
        on_batch(self, done, total)
        if len(self._last.history) == 1:
            self._on_interrupt(2, None)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingProgress, "on_batch", interrupt_in_epoch_2)
        stopped = program(*arguments, tmp_path / "parts")
    assert stopped.exit_code == 130
    assert "The state after epoch 2 is saved in" in stopped.stderr
    assert not (tmp_path / "parts" / "results.json").exists()
    resumed = program(*arguments, tmp_path / "parts")
    assert "resuming after epoch 2" in resumed.stderr
    errors = [json.loads((tmp_path / name / "results.json").read_text())["errors"] for name in ("whole", "parts")]
    assert errors[0] == errors[1]


def test_other_settings_do_not_mix(program, data, tmp_path):
    arguments = ["train", data, "--output", tmp_path / "run", *SMALL]
    program(*arguments, "--epochs", 1)
    result = program(*arguments, "--epochs", 2)
    assert result.exit_code == 2
    assert "other settings" in result.stderr


def test_splits(program, data, tmp_path):
    result = program("train", data, "--epochs", 1, "--splits", "0-1", "--output", tmp_path / "runs", *SMALL)
    assert result.exit_code == 0
    summary = json.loads((tmp_path / "runs" / "summary.json").read_text())
    each = [
        json.loads((tmp_path / "runs" / f"split-{seed}" / "results.json").read_text())["errors"]["total"]["test"]["all"]
        for seed in (0, 1)
    ]
    values = [errors["mae_ten"] for errors in each]
    assert summary["dtnn"]["total"]["mae_ten"]["mean"] == pytest.approx(np.mean(values))
    assert summary["dtnn"]["total"]["mae_ten"]["std"] == pytest.approx(np.std(values, ddof=1))
    assert "mean ± standard deviation over 2 splits" in result.stdout


def test_splits_of_one_line():
    assert parse_splits("0-2,5,1") == [0, 1, 2, 5]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--splits", "a-b"),
        ("--splits", "4-0"),
        ("--splits", "0-99999999999"),
        ("--splits", f"0-{10**30}"),
        ("--splits", "4294967296"),
        ("--set", "encoder.channels=8,4"),
        ("--layer", "6"),
    ],
)
def test_bad_option(program, option, value):
    result = program("train", option, value)
    assert result.exit_code == 2
    assert option in result.stderr


def test_no_usable_crystal(program, tmp_path):
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    result = program("train", empty, "--output", tmp_path / "run")
    assert result.exit_code == 2
    assert "the file is empty" in result.stderr

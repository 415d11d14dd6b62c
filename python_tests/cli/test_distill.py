# SPDX-License-Identifier: MIT
"""dtnn-fast distill: from crystals to an encoder, with a fake teacher."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

import dtnn_fast.encoders
from dtnn_fast.cli.distill import TeacherName, _usual_matches
from dtnn_fast.cli.progress import DistillProgress
from dtnn_fast.distillation.made_crystals import load_sources
from dtnn_fast.encoders import PRETRAINED
from dtnn_fast.encoders.build import load_encoder
from dtnn_fast.errors import DTNNError
from dtnn_fast.potentials.energy_model import load_energy_model

SMALL = [
    *("--crystals", 30, "--set", "crystals.held_out=0.3", "--threads", 1),
    *("--set", "encoder.channels=8,4,4", "--set", "encoder.cutoffs=2.5,3"),
]


@pytest.fixture
def few(tmp_path, labelled, row_of):
    """A file of small crystals with a broken line."""
    rows = [row_of(crystal) for crystal in labelled if crystal.num_atoms <= 4][:25]
    path = tmp_path / "few.jsonl"
    path.write_text("\n".join([*map(json.dumps, rows), "{broken", ""]))
    return path


@pytest.fixture(autouse=True)
def teacher(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "distillation")
    from fake_teacher import FakeTeacher

    monkeypatch.setattr(dtnn_fast.encoders, "pretrained_encoder", lambda name: FakeTeacher())
    yield
    sys.modules.pop("fake_teacher")


def test_distill_then_nothing_left_to_do(program, few, tmp_path):
    arguments = ["distill", few, "--epochs", 4, *SMALL]
    arguments += ["--set", "training.batch_atoms=40", "--set", "encoder.learn=1:1:0.5,2:1"]
    first = program(*arguments, "--output", tmp_path / "run")
    assert first.exit_code == 0
    assert "crystals: 55; dropped: 1 cannot be read" in first.stderr
    assert "Explained variance on held-out chemical systems: real crystals" in first.stdout
    assert "not valid JSON" in (tmp_path / "run" / "labels" / "rejected.csv").read_text()
    encoder = load_encoder(tmp_path / "run" / "encoder")
    assert encoder.config.cutoffs == (2.5, 3.0)
    assert 2 < encoder.config.mean_bonds[0] < encoder.config.mean_bonds[1] < 9
    assert (encoder.bond_channels.scalar, encoder.channels.scalar) == (8, 6)
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings["settings"]["matches"] == [
        {"ours": 1, "theirs": 1, "weight": 0.5},
        {"ours": 2, "theirs": 1, "weight": 1.0},
    ]
    again = program(*arguments, "--output", tmp_path / "run")
    assert "already finished" in again.stderr
    assert again.stdout == first.stdout
    sharing = ["--labels", tmp_path / "run" / "labels", "--output", tmp_path / "second"]
    shared = program(*arguments, "--energy-weight", 0.5, *sharing)
    assert shared.exit_code == 0
    assert not (tmp_path / "second" / "labels").exists()
    assert "energies: mean absolute error" in shared.stdout
    assert "energies" not in first.stdout
    assert load_energy_model(tmp_path / "second").encoder.config == encoder.config


def test_stopping_says_how_to_go_on(program, few, tmp_path, monkeypatch):
    def interrupt(self, trainer, record):
        raise KeyboardInterrupt

    arguments = ["distill", few, "--epochs", 1, "--set", "encoder.learn=1:1", *SMALL, "--output", tmp_path / "run"]
    with monkeypatch.context() as patch:
        patch.setattr(DistillProgress, "on_record", interrupt)
        stopped = program(*arguments)
    assert stopped.exit_code == 130
    assert f"run the same command with --output {tmp_path / 'run'} to continue" in stopped.stderr
    assert program(*arguments).exit_code == 0


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            ["--set", "encoder.channels=8,4"],
            "`encoder.channels` to be a list of 3, each an integer, got [8, 4]",
        ),
        (["--set", "encoder.channels=8,4,x"], "expected `encoder.channels[2]` to be an integer, got 'x'"),
        (["--set", "encoder.channels=8,4,0"], "expected `encoder.channels` to be at least 1, got [8, 4, 0]"),
        (["--set", "encoder.cutoffs=3,2"], "expected one or more cutoffs that do not decrease, got [3.0, 2.0]"),
        (["--set", "encoder.cutoffs=nan"], "expected `encoder.cutoffs[0]` to be a finite number, got nan"),
        (["--set", "encoder.cutoffs=-1,2"], "expected `encoder.cutoffs` to be above 0, got [-1, 2]"),
        (["--set", "encoder.learn=1-1"], "expected pairs of layers"),
        (["--set", "encoder.learn=1:1:0"], "expected pairs of layers"),
        (["--energy-weight", "-1"], "expected `training.energy_weight` to be at least 0, got -1.0"),
        (["--energy-weight", "nan"], "expected `training.energy_weight` to be a finite number, got nan"),
        (["--teacher", "other"], "Invalid value"),
    ],
)
def test_wrong_options_are_named(program, option, message):
    result = program("distill", *option)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_a_layer_that_there_is_not_is_named(program, few, tmp_path):
    result = program("distill", few, "--set", "encoder.learn=1:9", *SMALL, "--output", tmp_path / "run")
    assert result.exit_code == 2
    message = " ".join(result.stderr.split())
    assert "layer 1 of the encoder cannot learn layer 9 of the teacher" in message
    assert "the encoder has 2 layers, the teacher has layers 1, 2" in message
    assert not (tmp_path / "run").exists()


def test_another_run_is_refused_before_labels_are_made(program, few, tmp_path):
    arguments = ["distill", few, "--epochs", 1, "--set", "encoder.learn=1:1", *SMALL, "--output", tmp_path / "run"]
    assert program(*arguments).exit_code == 0
    shutil.rmtree(tmp_path / "run" / "labels")
    other = program(*arguments, "--set", "encoder.channels=4,4,4")
    assert other.exit_code == 2
    assert "contains a run with other settings" in " ".join(other.stderr.split())
    assert not (tmp_path / "run" / "labels").exists()


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu7", "expected the device cpu or cuda, got 'gpu7'"),
        ("meta", "expected the device cpu or cuda, got 'meta'"),
        ("cuda", "the device 'cuda' needs GPU number 0, counted from 0; torch sees 0"),
        ("cuda:3", "the device 'cuda:3' needs GPU number 3, counted from 0; torch sees 0"),
    ],
)
def test_a_device_that_is_not_there_is_named(program, few, tmp_path, monkeypatch, device, message):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    arguments = ["distill", few, "--set", "encoder.learn=1:1", *SMALL, "--device", device, "--output", tmp_path / "run"]
    result = program(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert not (tmp_path / "run").exists()


def test_sources_without_crystals_say_why(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"id": "a"}\n{"id": "b"}\n')
    with pytest.raises(DTNNError, match=r"no crystals found in .*bad\.jsonl; .*bad\.jsonl.*: .+ \(and 1 more\)"):
        load_sources([path])
    with pytest.raises(DTNNError, match=r"no crystals found in .*none; .*none: "):
        load_sources([tmp_path / "none"])


def test_the_last_layer_learns_what_decoders_read():
    assert _usual_matches(3) == [(1, 1, 0.3), (2, 2, 0.3), (3, 4, 1.0)]
    assert _usual_matches(1) == [(1, 4, 1.0)]
    assert _usual_matches(5)[-1] == (5, 5, 1.0)


def test_every_pretrained_encoder_can_be_the_teacher():
    assert {name.value for name in TeacherName} == set(PRETRAINED)

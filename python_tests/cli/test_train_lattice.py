# SPDX-License-Identifier: MIT
"""`dtnn-fast train-lattice`: what it learns, continues and refuses."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from lattice_cases import random_lattice_model
from model_cases import small_crystals

from dtnn_fast.encoders import Channels, NativeEncoder, NativeEncoderConfig
from dtnn_fast.encoders.build import load_encoder, save_encoder
from dtnn_fast.formats import read_packed, write_packed
from dtnn_fast.model.lattice_model import LatticeModel

SMALL = ["--layer", "1-2", "--latent", 8, "--epochs", 3, "--learning-rate", 0.01, "--threads", 1]


# Elements that many small crystals have.
FREQUENT = {8, 9, 11, 12, 16, 17, 19, 20, 34, 37, 38, 52, 55, 56}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lattice")
    crystals = [crystal for crystal in small_crystals(900, 9) if set(crystal.atomic_numbers.tolist()) <= FREQUENT][:80]
    labels = random_lattice_model().predict(crystals)
    learned = [
        replace(
            crystal,
            force_constants=label.force_constants + np.eye(3 * crystal.num_atoms),
            born_charges=label.born_charges,
        )
        for crystal, label in zip(crystals, labels, strict=True)
    ]
    for index in range(4):  # of another functional, without force constants
        learned[index] = replace(learned[index], force_constants=None, info={"functional": "PBEsol"})
    write_packed(folder / "learned.npz", learned, {})
    write_packed(folder / "bare.npz", [replace(crystals[0], targets={})], {})
    torch.manual_seed(0)
    encoder = NativeEncoder(NativeEncoderConfig((3.0, 4.0), (7.0, 16.0), Channels(8, 4, 4)))
    save_encoder(encoder, folder / "encoder")
    return folder


def test_a_run_learns_and_is_recorded(program, files):
    run = files / "run"
    arguments = ["train-lattice", files / "learned.npz", "--encoder", files / "encoder", *SMALL, "-o", run]
    result = program(*arguments)
    assert result.exit_code == 0, result.stderr
    results = json.loads((run / "results.json").read_text())
    assert results["epochs"] == 3
    held_out = results["held_out"]
    # Held-out crystals with an element that no five crystals have taught are not tested.
    assert 0 < held_out["crystals"] <= 80 - results["crystals"]
    charges = held_out["born_charges"]
    assert charges["atoms"] == sum(one["atoms"] for one in charges["by_element"].values())
    lines = [line for line in result.stderr.splitlines() if line.startswith("epoch")]
    assert len(lines) == 3
    model = LatticeModel.from_pretrained(run / "model")
    assert model.config.functionals == ("PBE", "PBEsol")
    encoder = load_encoder(run / "encoder")
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, model.encoder.state_dict()[name])
    start = load_encoder(files / "encoder").state_dict()
    assert any(not torch.equal(value, start[name]) for name, value in encoder.state_dict().items())
    again = program(*arguments)
    assert again.exit_code == 0
    assert "resuming after epoch 3" in again.stderr
    other = program(*arguments, "--seed", 1)
    assert other.exit_code == 2
    assert "other settings or data" in other.stderr


def test_a_stopped_run_goes_on(program, files, monkeypatch):
    from dtnn_fast.training.lattice_training import LatticeTrainer

    arguments = ["train-lattice", files / "learned.npz", "--encoder", files / "encoder", *SMALL]
    assert program(*arguments, "-o", files / "whole").exit_code == 0
    real = LatticeTrainer._train_epoch

    def stopping(self, epoch, on_batch):
        if epoch == 2:
            raise KeyboardInterrupt
        return real(self, epoch, on_batch)

    with monkeypatch.context() as patch:
        patch.setattr(LatticeTrainer, "_train_epoch", stopping)
        assert program(*arguments, "-o", files / "parts").exit_code != 0
    assert program(*arguments, "-o", files / "parts").exit_code == 0
    whole, parts = (json.loads((files / name / "results.json").read_text()) for name in ("whole", "parts"))
    assert parts["held_out"] == whole["held_out"]


def test_training_goes_on_from_a_model(program, files):
    """With a learning rate of nothing it stays the model that it was; with others it learns."""
    start = random_lattice_model(elements=(8, 12, 92), functionals=("PBE", "PBEsol")).float()
    start.save(files / "start")
    arguments = ["train-lattice", files / "learned.npz", "--start", files / "start", "--epochs", 1, "--threads", 1]
    for name, rate in (("same", 1e-12), ("new", 0.01)):
        result = program(*arguments, "--learning-rate", rate, "--dropout", 0, "-o", files / name)
        assert result.exit_code == 0, result.stderr
    same, new = (LatticeModel.from_pretrained(files / name / "model") for name in ("same", "new"))
    assert same.config.decoder == replace(start.config.decoder, dropout=0.0)
    assert {8, 12, 92} < set(same.elements)
    assert same.functionals == ("PBE", "PBEsol")
    for before, after in zip(start.state_dict().values(), same.state_dict().values(), strict=True):
        torch.testing.assert_close(after, before)
    pairs = zip(start.state_dict().values(), new.state_dict().values(), strict=True)
    assert not all(torch.equal(*pair) for pair in pairs)
    keys = [json.loads((files / name / "settings.json").read_text())["settings"]["start"] for name in ("same", "new")]
    assert keys[0] == keys[1]


def test_labels_must_be_of_functionals_that_the_start_knows(program, files):
    random_lattice_model(functionals=("PBE", "LDA")).float().save(files / "other")
    random_lattice_model().float().save(files / "single")
    arguments = ["train-lattice", files / "learned.npz", "--epochs", 1, "--threads", 1, "-o", files / "few"]
    result = program(*arguments, "--start", files / "single")
    assert result.exit_code == 2
    assert "labels are of PBE, PBEsol" in result.stderr
    assert not (files / "few").exists()
    result = program(*arguments, "--start", files / "other")
    assert result.exit_code == 0, result.stderr
    assert "4 rejected" in result.stderr


def test_a_run_trains_on_the_device(program, files, monkeypatch):
    """The CPU cannot stand in for a GPU here; torch's device without values can."""
    from dtnn_fast.errors import DTNNError
    from dtnn_fast.training import lattice_run

    def report(model, *_, **__):
        raise DTNNError(f"a trainer on {model.device}")

    monkeypatch.setattr("dtnn_fast.nn.devices.find_device", lambda name, command: torch.device("meta"))
    monkeypatch.setattr(lattice_run, "LatticeTrainer", report)
    result = program("train-lattice", files / "learned.npz", "--encoder", files / "encoder", *SMALL, "-o", files / "no")
    assert "a trainer on meta" in result.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--held-out", "some"], "systems, bundled, nothing"),
        (["--functional", "LDA"], "PBE, PBEsol"),
        (["--encoder", "sevennet-0"], "'distilled' or the folder"),
        (["--layer", "1-4"], "num_layers"),
        (["--start", "lattice"], "--encoder cannot be combined with --start"),
    ],
)
def test_wrong_arguments(program, files, change, message):
    arguments = ["train-lattice", files / "learned.npz", "--encoder", files / "encoder", *SMALL, "-o", files / "no"]
    result = program(*arguments, *change)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert not (files / "no").exists()


def test_data_without_such_labels_are_refused(program, files):
    result = program("train-lattice", files / "bare.npz", "--encoder", files / "encoder", *SMALL, "-o", files / "no")
    assert result.exit_code == 2
    assert not (files / "no").exists()


def test_a_file_without_labels_of_the_lattice_is_named(program, files):
    result = program("train-lattice", files / "nowhere.npz", "-o", files / "none")
    assert result.exit_code == 2
    assert "nowhere.npz" in result.stderr
    assert "no such file" in result.stderr


def test_crystals_with_force_constants_alone_are_learned(program, files):
    """As tools/potential_labels.py adds them. They were rejected, for they have no label that `train` learns."""
    crystals = [replace(crystal, targets={}, born_charges=None) for crystal in read_packed(files / "learned.npz").items]
    known = [crystal for crystal in crystals if crystal.force_constants is not None]
    write_packed(files / "springs.npz", known, {})
    run = files / "springs"
    arguments = ["train-lattice", files / "springs.npz", "--encoder", files / "encoder", *SMALL, "-o", run]
    result = program(*arguments, "--held-out", "nothing")
    assert result.exit_code == 0, result.stderr
    assert f"{len(known)} crystals with labels of the lattice, 0 without, 0 rejected" in result.stderr
    assert json.loads((run / "results.json").read_text())["labels"]["force_constants"] == len(known)
    # Other force constants are other data.
    write_packed(files / "springs.npz", [replace(c, force_constants=2.0 * c.force_constants) for c in known], {})
    other = program(*arguments, "--held-out", "nothing")
    assert other.exit_code == 2
    assert "other settings or data" in other.stderr
    bare = [replace(crystal, force_constants=None) for crystal in crystals[:2]]
    write_packed(files / "nothing.npz", bare, {})
    result = program("train-lattice", files / "nothing.npz", "--encoder", files / "encoder", *SMALL, "-o", files / "no")
    assert result.exit_code == 2
    assert "no tensor, diagonal, mean, Born charges or force constants are given" in result.stderr

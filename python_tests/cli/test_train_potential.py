# SPDX-License-Identifier: MIT
"""`dtnn-fast train-potential`: what it learns, continues, refuses, and what refine does with the result."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from model_cases import small_crystals

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.encoders import Channels, NativeEncoder, NativeEncoderConfig
from dtnn_fast.encoders.build import save_encoder
from dtnn_fast.errors import BadFileError
from dtnn_fast.formats import write_packed
from dtnn_fast.phonons import without_translations
from dtnn_fast.potentials import load_potential
from dtnn_fast.training.force_frames import ForceFrame, write_force_frames

pytest.importorskip("ase")

SMALL = ["--epochs", 2, "--learning-rate", 0.01, "--threads", 1]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Forty crystals with force constants, and the same ones, moved, with energies, forces and stresses."""
    folder = tmp_path_factory.mktemp("potential")
    rng = np.random.default_rng(0)
    learned, frames = [], []
    for crystal in [crystal for crystal in small_crystals(900, 4) if crystal.num_atoms > 1][:40]:
        basis = without_translations(crystal.num_atoms)
        learned.append(replace(crystal, targets={}, force_constants=4.0 * basis @ basis.T))
        moved = 0.05 * rng.normal(size=crystal.positions.shape)
        moved -= moved.mean(0)
        made = Crystal.make(crystal.id, crystal.atomic_numbers, crystal.positions + moved, crystal.cell)
        energy = float(2.0 * np.square(moved).sum() - 3.0 * crystal.num_atoms)
        frames.append(ForceFrame(made, energy, -4.0 * moved, np.zeros((3, 3)) if len(frames) % 2 else None))
    write_packed(folder / "springs.npz", learned, {})
    write_force_frames(folder / "frames.extxyz", frames)
    torch.manual_seed(0)
    encoder = NativeEncoder(NativeEncoderConfig((3.0, 4.0), (7.0, 16.0), Channels(8, 4, 4)))
    save_encoder(encoder, folder / "encoder")
    return folder


def arguments(files, run, *more):
    data = ["train-potential", files / "frames.extxyz", "--force-constants", files / "springs.npz"]
    return [*data, "--encoder", files / "encoder", *SMALL, "-o", run, *more]


def test_a_run_learns_and_is_recorded(program, files):
    run = files / "run"
    result = program(*arguments(files, run))
    assert result.exit_code == 0, result.stderr
    assert "40 crystals with energies and forces, 40 with force constants; left out: 0 too large" in result.stderr
    results = json.loads((run / "results.json").read_text())
    assert results["epochs"] == 2
    assert results["crystals"] < 40
    held_out = results["held_out"]
    # The crystals of the same chemical systems; not those with an element that is not known.
    assert 0 < held_out["force_constants"]["count"] <= 40 - results["crystals"]
    assert results["frames"] <= results["crystals"]
    assert held_out["frames"]["mean_force"] > 0
    assert "force constants, " in result.stdout
    assert "stresses " in result.stdout
    lines = [line for line in result.stderr.splitlines() if line.startswith("epoch")]
    assert len(lines) == 2
    again = program(*arguments(files, run))
    assert again.exit_code == 0
    assert "resuming after epoch 2" in again.stderr
    other = program(*arguments(files, run, "--seed", 1))
    assert other.exit_code == 2
    assert "other settings or data" in other.stderr


def test_refine_takes_the_result(program, files, tmp_path):
    run = tmp_path / "run"
    assert program(*arguments(files, run, "--held-out", "nothing")).exit_code == 0
    potential = load_potential(run / "model", dtype=torch.float32)
    crystal = next(c for c in small_crystals(900, 4) if c.num_atoms > 1)
    assert np.abs(potential.forces([crystal])[0].sum(0)).max() < 1e-4
    write_packed(tmp_path / "one.npz", [crystal], {})
    result = program("refine", tmp_path / "one.npz", "--potential", run / "model", "--json")
    assert result.exit_code == 0, result.stderr
    content = json.loads(result.stdout)
    assert content["potential"] == str(run / "model")
    # No join was fitted to its force constants, so there is no error bar.
    assert content["crystals"][0]["ionic_error"] is None
    result = program("refine", tmp_path / "one.npz", "--potential", run)
    assert result.exit_code == 2
    assert f"did you mean {run / 'model'}?" in result.stderr.replace("\n", "")


def test_a_stopped_run_ends_with_the_same_weights(program, files, tmp_path, monkeypatch):
    from dtnn_fast.training.potential_training import PotentialTrainer

    real, calls = PotentialTrainer._train_epoch, []

    def stopping(self, epoch, on_batch):
        calls.append(epoch)
        if epoch == 2 and len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, epoch, on_batch)

    assert program(*arguments(files, tmp_path / "whole", "--held-out", "nothing")).exit_code == 0
    monkeypatch.setattr(PotentialTrainer, "_train_epoch", stopping)
    assert program(*arguments(files, tmp_path / "run", "--held-out", "nothing")).exit_code == 130
    assert program(*arguments(files, tmp_path / "run", "--held-out", "nothing")).exit_code == 0
    # Not the files of the readout, whose record has the seconds of the training.
    encoders = [(tmp_path / run / "model/encoder/model.safetensors").read_bytes() for run in ("whole", "run")]
    assert encoders[0] == encoders[1]
    weights = [load_potential(tmp_path / run / "model").model.state_dict() for run in ("whole", "run")]
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


def test_frames_without_labels_are_named(program, files, tmp_path):
    text = (files / "frames.extxyz").read_text()
    bare = '2\nLattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3 pbc="T T T"\nNa 0 0 0\nCl 2.5 2.5 2.5\n'
    (tmp_path / "some.extxyz").write_text(bare + text)
    result = program(
        "train-potential", tmp_path / "some.extxyz", "--encoder", files / "encoder", *SMALL, "-o", tmp_path / "run"
    )
    assert result.exit_code == 0, result.stderr
    assert "1 rejected" in result.stderr
    table = (tmp_path / "run" / "rejected.csv").read_text()
    assert "some:1," in table
    assert "no label: it has no energy and no forces" in table
    (tmp_path / "bare.extxyz").write_text(bare)
    result = program("train-potential", tmp_path / "bare.extxyz", "--encoder", files / "encoder", *SMALL)
    assert result.exit_code == 2
    assert "nothing to learn from: no crystal has energies and forces" in result.stderr
    (tmp_path / "empty.extxyz").touch()
    result = program("train-potential", tmp_path / "empty.extxyz", "--encoder", files / "encoder", *SMALL)
    assert result.exit_code == 2
    assert "the file is empty" in result.stderr


def test_force_constants_that_nothing_has_are_an_error(program, files, tmp_path):
    write_packed(tmp_path / "tensors.npz", small_crystals(3), {})
    data = ["train-potential", files / "frames.extxyz", "--force-constants", tmp_path / "tensors.npz"]
    result = program(*data, "--encoder", files / "encoder", *SMALL, "-o", tmp_path / "run")
    assert result.exit_code == 2
    assert "3 without force constants" in result.stderr
    assert "no crystal has force constants" in result.stderr
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_trained_is_refused(program, files, tmp_path):
    result = program("train-potential", tmp_path / "none.extxyz", "--encoder", files / "encoder")
    assert result.exit_code == 2
    assert "no such file" in result.stderr
    result = program(*arguments(files, tmp_path / "run", "--held-out", "some"))
    assert result.exit_code == 2
    assert "expected one of systems, bundled, nothing" in " ".join(result.stderr.split())
    result = program("train-potential", files / "frames.extxyz", "--encoder", "native")
    assert result.exit_code == 2
    assert "--encoder" in result.stderr


def test_a_folder_without_a_readout_is_no_potential(files):
    with pytest.raises(BadFileError):
        load_potential(files)

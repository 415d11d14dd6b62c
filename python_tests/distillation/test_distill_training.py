# SPDX-License-Identifier: MIT
"""Training on labels: it learns, resumes with the same bits, and two processes train as a single one would."""

import json
from dataclasses import replace

import pytest
import torch
from fake_teacher import FakeTeacher
from processes import torchrun
from safetensors.torch import load_file

from dtnn_fast.distillation.batches import LabelledShards
from dtnn_fast.distillation.distill_run import distill_run
from dtnn_fast.distillation.distill_settings import DistillSettings
from dtnn_fast.distillation.distill_trainer import DistillTrainer
from dtnn_fast.distillation.held_out_report import evaluate, explained_variance_rows
from dtnn_fast.distillation.labels import fit_labelled_energies
from dtnn_fast.distillation.student import LabelStatistics, LayerMatch, Student, label_statistics
from dtnn_fast.encoders import Channels, NativeEncoderConfig
from dtnn_fast.encoders.build import load_encoder, read_encoder_config
from dtnn_fast.errors import BadFileError, DTNNError
from dtnn_fast.training.workers import Workers, join_workers

ALONE = Workers(0, 1, torch.device("cpu"))
ENCODER = NativeEncoderConfig((2.5, 3.0), (4.0, 7.0), Channels(8, 4, 3, 4))
SETTINGS = DistillSettings(
    ENCODER, (LayerMatch(1, 1), LayerMatch(2, 2)), epochs=5, batch_atoms=60, warmup=3, average=0.9
)
ENERGY_WEIGHTS = (0.0, 0.5)
NAMES = ["rank2_1", "scalar_1", "scalar_2", "vector_1"]


class Answers(torch.nn.Module):
    """An encoder that gives the teacher's whitened latents times a factor."""

    def __init__(self, statistics, factor):
        super().__init__()
        self.teacher, self.statistics, self.factor = FakeTeacher(), statistics, factor

    def forward(self, graph):
        layers = []
        for number, layer in enumerate(self.teacher.forward(graph), start=1):
            parts = {}
            for rank in ("scalar", "vector", "rank2"):
                if (label := self.statistics.get(f"{rank}_{number}")) is not None:
                    values = getattr(layer, f"atom_{rank}")
                    parts[f"atom_{rank}"] = self.factor * (values - label.mean) / label.deviation
            layers.append(layer._replace(**parts))
        return layers


@pytest.mark.parametrize(("factor", "explained"), [(1.0, 1.0), (0.0, 0.0), (0.5, 0.75)])
def test_explained_variance_of_a_known_answer(labels, factor, explained):
    statistics = label_statistics(labels)
    student = Student(ENCODER, (LayerMatch(1, 1), LayerMatch(2, 2)), statistics)
    assert student.encoder.config.readout == (6, 3, 2)
    assert [rank for match, rank in student.learned_ranks() if match.theirs == 2] == ["scalar"]
    student.encoder = Answers(statistics, factor)
    shards = LabelledShards(labels, ENCODER.cutoffs, NAMES)
    layers_explained = evaluate(student, shards.held_out_batches(made=True), "cpu").latents
    assert [(entry.ours, entry.theirs) for entry in layers_explained] == [(1, 1), (2, 2)]
    for entry in layers_explained:
        assert list(entry.ranks.values()) == pytest.approx([explained] * len(entry.ranks), abs=1e-4)
    assert explained_variance_rows(layers_explained)[1][2:] == [f"{explained:.3f}", "-", "-"]


def test_statistics_leave_outliers_out(labels):
    statistics = label_statistics(labels)["vector_1"]
    assert torch.equal(statistics.mean, torch.zeros(3))
    batches = LabelledShards(labels, (3.0,), NAMES).training_batches(0, 0)
    values = torch.cat([batch.labels["vector_1"] for batch in batches])
    everything = values.float().square().sum(1).mean(0).sqrt()
    assert (statistics.deviation < everything).all()
    assert (statistics.deviation > 0.7 * everything).all()


def run(folder, labels, settings=SETTINGS, group=ALONE, **more):
    return distill_run(settings, labels, folder, group, record_every=5, report_every=2, **more)


def test_training_learns_and_leaves_an_encoder(labels, tmp_path):
    reports = []
    settings = replace(SETTINGS, epochs=25, learning_rate=0.02)
    held_out = run(tmp_path, labels, settings, on_report=reports.append)
    assert len(reports) > 2
    assert held_out["real"].latents[0].ranks["scalar"] > 0.5
    assert held_out["made"].latents[0].ranks["vector"] > 0.3
    record = json.loads((tmp_path / "report.json").read_text())
    assert record["held_out"]["made"][0]["ranks"] == held_out["made"].latents[0].ranks
    assert "held_out_energies" not in record
    assert not (tmp_path / "energy_head.safetensors").exists()
    encoder = load_encoder(tmp_path / "encoder")
    assert encoder.config == replace(ENCODER, readout=(6, 3, 2))
    _, teacher = read_encoder_config(tmp_path / "encoder" / "config.json")
    assert (teacher["name"], teacher["report"]) == ("fake", record)
    history = (tmp_path / "history.csv").read_text().splitlines()
    assert history[0] == "step,epoch,batch,loss,seconds"
    assert float(history[-1].split(",")[3]) < 0.7 * float(history[1].split(",")[3])


class StoppedError(Exception):
    pass


def stop_at(step):
    def on_record(trainer, record):
        if record.step == step:
            raise StoppedError

    return on_record


def test_a_stopped_run_goes_on_to_the_same_bits(labels, tmp_path):
    whole = run(tmp_path / "whole", labels)
    trainer_steps = []
    with pytest.raises(StoppedError):
        run(tmp_path / "parts", labels, on_record=stop_at(5))
    with pytest.raises(StoppedError):
        run(tmp_path / "parts", labels, on_record=stop_at(15))
    parts = run(tmp_path / "parts", labels, on_start=lambda trainer: trainer_steps.append(trainer.progress.step))
    assert trainer_steps == [15]
    assert parts == whole
    for name in ("encoder/model.safetensors", "checkpoint.safetensors"):
        first, second = (load_file(tmp_path / place / name) for place in ("whole", "parts"))
        assert all(torch.equal(value, second[key]) for key, value in first.items()), name
    again = run(tmp_path / "parts", labels)  # nothing is left to do
    assert again == whole
    with pytest.raises(BadFileError, match="other settings"):
        run(tmp_path / "parts", labels, replace(SETTINGS, seed=1))


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_a_loss_that_is_no_number_is_reported(labels, tmp_path, weight):
    def spoil(trainer):
        with torch.no_grad():
            (trainer.student.energy.weight if weight else trainer.student.encoder.embedding.weight)[0] = float("nan")

    with pytest.raises(DTNNError, match="the loss became nan by step 5; a lower learning rate than"):
        run(tmp_path, labels, replace(SETTINGS, energy_weight=weight), on_start=spoil)
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_averages_follow_the_weights(labels, tmp_path):
    shards = LabelledShards(labels, ENCODER.cutoffs, NAMES, SETTINGS.batch_atoms)
    trainer = DistillTrainer(replace(SETTINGS, average=0.0), shards, label_statistics(labels), tmp_path, ALONE)
    for _ in trainer.train():
        pass
    for name, value in trainer.averaged_student().state_dict().items():
        assert torch.equal(value, trainer.student.state_dict()[name])
    assert trainer.learning_rate(0) == pytest.approx(SETTINGS.learning_rate / 3, rel=0.05)
    assert trainer.learning_rate(trainer.num_steps) == 0


@pytest.mark.parametrize("match", [LayerMatch(3, 1), LayerMatch(0, 1), LayerMatch(1, 4)])
def test_missing_layers_are_refused(match):
    with pytest.raises(DTNNError, match=f"layer {match.ours} of the encoder cannot learn layer {match.theirs} of the"):
        Student(ENCODER, (match,), {"scalar_1": LabelStatistics(torch.zeros(6), torch.ones(6))})


def test_a_layer_that_would_learn_two_is_refused(labels):
    with pytest.raises(DTNNError, match="only one layer"):
        Student(ENCODER, (LayerMatch(1, 1), LayerMatch(1, 2)), label_statistics(labels))


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"matches": ()}, {"average": 1.0}, {"warmup": -1}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="DistillSettings: expected"):
        replace(SETTINGS, **wrong)


def main(labels, folder):
    """Run in each of two processes: a training that is stopped and continued."""
    from pathlib import Path

    with join_workers() as group:
        assert group.num_processes == 2
        assert group.any_process(group.rank == 1)
        for weight in ENERGY_WEIGHTS:
            settings, place = replace(SETTINGS, epochs=6, energy_weight=weight), Path(folder) / str(weight)
            with pytest.raises(StoppedError):
                run(place, Path(labels), settings, group, on_record=stop_at(5))
            group.wait()
            run(place, Path(labels), settings, group)


def test_two_processes_train_one_encoder_and_resume(labels, tmp_path):
    done = torchrun(tmp_path, __file__, labels, tmp_path / "run")
    assert done.returncode == 0, done.stderr[-3000:]
    # The mean of the two gradients is the gradient of the mean loss: a single process that takes both batches agrees.
    for weight in ENERGY_WEIGHTS:
        checkpoint = load_file(tmp_path / "run" / str(weight) / "checkpoint.safetensors")
        student = student_of_one_process(labels, weight)
        assert (student.energy is not None) == (weight > 0)
        for name, value in student.state_dict().items():
            torch.testing.assert_close(checkpoint[f"model.{name}"], value, rtol=1e-3, atol=1e-4)


def student_of_one_process(labels, weight):
    names, fit = ([*NAMES, "energy"], fit_labelled_energies(labels)) if weight else (NAMES, None)
    shards = LabelledShards(labels, ENCODER.cutoffs, names, SETTINGS.batch_atoms)
    settings = replace(SETTINGS, epochs=3, energy_weight=weight)
    alone = DistillTrainer(settings, shards, label_statistics(labels), labels, ALONE, fit=fit)
    step = epoch = 0
    while step < alone.num_steps:
        for pair in zip(*(shards.training_batches(0, epoch, (rank, 2)) for rank in (0, 1)), strict=True):
            if step == alone.num_steps:
                break
            for group in alone.optimizer.param_groups:
                group["lr"] = alone.learning_rate(step)
            loss = torch.stack([alone.student(batch.graph, batch.labels).total for batch in pair]).mean()
            alone.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(alone.student.parameters(), SETTINGS.clip_norm)
            alone.optimizer.step()
            step += 1
        epoch += 1
    return alone.student

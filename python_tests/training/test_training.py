# SPDX-License-Identifier: MIT
"""Training: the loss falls, a run goes on where it stopped to the bit, its folder says all, bad input is named."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from model_cases import TINY, config, small_crystals
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import dtnn_fast.nn.graph as graph_module
from dtnn_fast import DTNN, __version__
from dtnn_fast.crystals.crystal import Crystal, dielectric_targets
from dtnn_fast.datasets.splits import split
from dtnn_fast.errors import BadCrystalError, BadFileError, DTNNError
from dtnn_fast.training.labelled_data import LabelledGraphs
from dtnn_fast.training.metrics import METRICS, summarise
from dtnn_fast.training.run_folder import load_predictions
from dtnn_fast.training.train_run import train_run
from dtnn_fast.training.trainer import Trainer
from dtnn_fast.training.training_settings import TrainingSettings

CRYSTALS = small_crystals(24, max_atoms=4)
IDS = [crystal.id for crystal in CRYSTALS]
MODEL = replace(config(2, channels=TINY, latent=8, dropout=0.2), elements=())
SETTINGS = TrainingSettings(MODEL, epochs=4, batch_size=8, learning_rate=1e-2)


def trainer(folder=None, settings=SETTINGS, every=1, crystals=CRYSTALS):
    data = LabelledGraphs(crystals, settings.model.targets, settings.model.encoder.cutoffs[:2])
    return Trainer(settings, data, split([c.id for c in crystals], settings.seed), folder, every)


def assert_same_state(a, b):
    assert list(a) == list(b)
    for name, value in a.items():
        assert torch.equal(value, b[name]), name


def without_seconds(history):
    return [replace(epoch, seconds=0.0) for epoch in history]


def test_the_loss_falls_by_half_and_below_the_median_model_s():
    settings = replace(SETTINGS, epochs=60, model=config(2, channels=TINY, latent=16, dropout=0.0))
    run = trainer(settings=settings)
    losses = [epoch.train_loss for epoch in run.epochs()]
    assert losses[-1] < 0.5 * losses[0]
    train = run.data.tensors["total"][run.split.train]
    median = train.median(0).values
    assert losses[-1] < float((train - median).abs()[:, (0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1)].mean())


def test_predictions_on_record_are_zero_where_the_saved_model_s_are(tmp_path):
    """Symmetry forbids the ionic part of silicon, whatever its lattice constant."""
    fcc, diamond = 1 - np.eye(3), [[0, 0, 0], [0.25] * 3]
    targets = dielectric_targets(13 * np.eye(3), ionic=np.zeros((3, 3)))
    silicon = [
        Crystal.from_fractional(f"Si {index}", [14, 14], diamond, (2.6 + 0.1 * index) * fcc, targets=targets)
        for index in range(20)
    ]
    crystals = [*CRYSTALS, *silicon]
    settings = replace(SETTINGS, epochs=1, model=replace(MODEL, targets=("electronic", "ionic", "total"), members=2))
    train_run(settings, crystals, tmp_path)
    by_id = {crystal.id: crystal for crystal in crystals}
    recorded = load_predictions(tmp_path / "predictions.npz")
    is_silicon = np.array([id.startswith("Si ") for id in recorded.ids])
    np.testing.assert_array_equal((recorded.predicted["ionic"] == 0).all((1, 2)), is_silicon)
    saved = DTNN.from_pretrained(tmp_path / "model").predict_targets([by_id[id] for id in recorded.ids])
    for target, tensors in saved.items():
        np.testing.assert_allclose(recorded.predicted[target], tensors, rtol=1e-4, atol=1e-4)


def test_a_resumed_run_is_the_same_to_the_bit(tmp_path):
    whole = trainer()
    list(whole.epochs())
    assert len(whole.history) == 4
    folder = tmp_path / "run"
    folder.mkdir()
    for _, stop in zip(trainer(folder).epochs(), range(2), strict=False):
        if stop == 1:
            break
    torch.randn(7)  # whatever happens in between must not matter
    resumed = trainer(folder)
    assert len(resumed.history) == 2
    list(resumed.epochs())
    assert without_seconds(resumed.history) == without_seconds(whole.history)
    assert (resumed.best_epoch, resumed.best_score) == (whole.best_epoch, whole.best_score)
    assert_same_state(resumed.model.state_dict(), whole.model.state_dict())
    assert_same_state(resumed.best_state, whole.best_state)
    finished = trainer(folder)
    assert finished.finished
    assert list(finished.epochs()) == []


def test_a_run_stopped_between_checkpoints_goes_on_from_the_last_one(tmp_path):
    settings = replace(SETTINGS, epochs=7)

    def stop(trainer, epoch):
        if epoch.epoch == 6:
            raise KeyboardInterrupt

    whole = train_run(settings, CRYSTALS, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_run(settings, CRYSTALS, tmp_path / "stopped", on_epoch=stop)
    seen = []
    again = train_run(settings, CRYSTALS, tmp_path / "stopped", on_epoch=lambda t, epoch: seen.append(epoch.epoch))
    assert seen == [6, 7]
    assert again["errors"] == whole["errors"]
    names = ("whole", "stopped")
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in names]
    assert weights[0] == weights[1]


def test_runs_repeat_and_seeds_differ():
    runs = []
    for seed in (0, 0, 1):
        runs.append(trainer(settings=replace(SETTINGS, seed=seed)))
        next(runs[-1].epochs())
    assert_same_state(runs[0].model.state_dict(), runs[1].model.state_dict())
    assert runs[0].history[0].train_loss != runs[2].history[0].train_loss


def test_training_stops_after_some_epochs_without_gain():
    settings = replace(SETTINGS, epochs=50, patience=3, learning_rate=0.0)
    run = trainer(settings=settings)
    assert len(list(run.epochs())) == 4  # the first is the best, three more are no better
    assert run.best_epoch == 1


def test_the_best_weights_are_kept_not_the_last(tmp_path):
    run = trainer(settings=replace(SETTINGS, epochs=12, learning_rate=0.05))
    states = {}
    for epoch in run.epochs():
        states[epoch.epoch] = {name: value.clone() for name, value in run.model.state_dict().items()}
    best = min(run.history, key=lambda epoch: epoch.score)
    assert run.best_epoch == best.epoch
    assert_same_state(run.load_best().state_dict(), states[best.epoch])
    score = run._loss.of_tensors(
        run.predict(run.split.validation), {"total": run.data.tensors["total"][run.split.validation]}
    )
    assert score.item() == pytest.approx(best.score, rel=1e-6)


def test_the_learning_rate_follows_half_a_cosine():
    run = trainer()
    rates = [epoch.learning_rate for epoch in run.epochs()]
    steps = -(-len(run.split.train) // SETTINGS.batch_size)
    expected = [0.5 * SETTINGS.learning_rate * (1 + np.cos(np.pi * (n - 1 / steps) / 4)) for n in (1, 2, 3, 4)]
    np.testing.assert_allclose(rates, expected, rtol=1e-12)


def test_gradients_are_clipped(monkeypatch):
    norms = []
    clip = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda p, n: norms.append(n) or clip(p, n))
    next(trainer().epochs())
    assert set(norms) == {2.0}


def test_neighbor_lists_are_made_once_for_each_crystal(monkeypatch, tmp_path):
    calls = []
    original = graph_module.nested_neighbor_lists
    monkeypatch.setattr(graph_module, "nested_neighbor_lists", lambda *a, **k: calls.append(1) or original(*a, **k))
    train_run(SETTINGS, CRYSTALS, tmp_path / "run")
    assert len(calls) == len(CRYSTALS)


def test_the_folder_of_a_run_says_everything(tmp_path):
    folder = tmp_path / "new" / "run"
    results = train_run(SETTINGS, CRYSTALS, folder, command="dtnn-fast train --seed 0", label="DTNN")
    names = {path.name for path in folder.iterdir()}
    files = {"settings.json", "history.csv", "results.json", "predictions.npz", "checkpoint.safetensors"}
    assert names == {*files, "model"}

    record = json.loads((folder / "settings.json").read_text())
    assert record["command"] == "dtnn-fast train --seed 0"
    assert record["versions"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert record["versions"]["dtnn_fast"] == __version__
    assert record["label"] == "DTNN"
    assert record["hardware"]["cores"] >= 1
    assert record["hardware"]["cpu"]
    assert record["data"]["crystals"] == len(CRYSTALS)
    again = TrainingSettings.from_json(record["settings"])
    elements = tuple(sorted({int(z) for crystal in CRYSTALS for z in crystal.atomic_numbers}))
    assert again == replace(SETTINGS, model=replace(MODEL, elements=elements))

    with (folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    best = min(rows, key=lambda row: float(row["score"]))
    assert int(best["epoch"]) == results["best_epoch"]
    assert float(best["validation_total"]) == pytest.approx(results["errors"]["total"]["validation"]["all"]["mae_ten"])

    assert results == json.loads((folder / "results.json").read_text())
    parts = split(IDS, 0)
    assert results["epochs"] == 4
    for part in ("test", "validation", "train"):
        errors = results["errors"]["total"][part]
        assert errors["all"]["count"] == len(getattr(parts, part))
        assert {*METRICS, "count", "median_ten"} == set(errors["all"])
        systems = {CRYSTALS[n].info["crystal_system"] for n in getattr(parts, part)}
        assert set(errors) == {"all", *systems}
    assert results["median_model"]["total"]["all"]["count"] == len(parts.test)

    predictions = load_predictions(folder / "predictions.npz")
    for part in ("test", "validation", "train"):
        selected = predictions.select_part(part)
        assert selected.ids == [IDS[n] for n in getattr(parts, part)]
        expected = np.array([CRYSTALS[n].targets["total"] for n in getattr(parts, part)])
        np.testing.assert_allclose(selected.expected["total"], expected, rtol=1e-6, atol=1e-6)
        again = summarise(selected.predicted["total"], selected.expected["total"], [""] * len(selected.ids))
        assert again["all"] == results["errors"]["total"][part]["all"]

    model = DTNN.from_pretrained(folder / "model")
    test = [CRYSTALS[n] for n in parts.test]
    off = model.predict(test) - np.array([crystal.targets["total"] for crystal in test])
    mae = np.abs(off[:, (0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1)]).mean()
    assert mae == pytest.approx(results["errors"]["total"]["test"]["all"]["mae_ten"], rel=1e-4)


def test_three_targets_are_trained_together(tmp_path):
    targets = ("electronic", "ionic", "total")
    settings = replace(SETTINGS, epochs=2, model=replace(MODEL, targets=targets))
    results = train_run(settings, CRYSTALS, tmp_path / "run")
    assert set(results["errors"]) == set(targets)
    assert (
        (tmp_path / "run" / "history.csv")
        .read_text()
        .splitlines()[0]
        .endswith("validation_electronic,validation_ionic,validation_total")
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda s, c: (replace(s, seed=1), c),
        lambda s, c: (replace(s, learning_rate=2e-2), c),
        lambda s, c: (replace(s, model=config(3, channels=TINY, latent=8)), c),
        lambda s, c: (s, c[:-1]),
        lambda s, c: (s, [replace(c[0], positions=c[0].positions + 0.1), *c[1:]]),
        lambda s, c: (s, [replace(c[0], targets={**c[0].targets, "total": np.eye(3)}), *c[1:]]),
    ],
    ids=["seed", "learning rate", "model", "fewer crystals", "moved atoms", "other target"],
)
def test_a_folder_of_another_run_is_left_alone(tmp_path, change):
    settings = replace(SETTINGS, epochs=1)
    train_run(settings, CRYSTALS, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    other, crystals = change(settings, CRYSTALS)
    with pytest.raises(BadFileError, match="contains a run with other settings or data; choose another folder"):
        train_run(other, crystals, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    # The same crystals in another order are the same data.
    train_run(settings, CRYSTALS[::-1], tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", "\x00\x01"])
def test_damaged_settings_of_a_run_are_named(tmp_path, content):
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(BadFileError, match=str(tmp_path)):
        train_run(SETTINGS, CRYSTALS, tmp_path)


def spoil(path, change):
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    state = load_file(path)
    change(state, metadata)
    save_file(state, path, metadata=metadata)


def set_progress(metadata, **values):
    progress = json.loads(metadata["progress"]) | values
    metadata["progress"] = json.dumps({name: value for name, value in progress.items() if value is not None})


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(b"\x80\x04\x95" + path.read_bytes()),
        lambda path: spoil(path, lambda s, m: m.clear()),
        lambda path: spoil(path, lambda s, m: m.update(progress="[]")),
        lambda path: spoil(path, lambda s, m: m.update(progress="{")),
        lambda path: spoil(path, lambda s, m: set_progress(m, history=None)),
        lambda path: spoil(path, lambda s, m: set_progress(m, history=[{"epoch": 1}])),
        lambda path: spoil(path, lambda s, m: set_progress(m, best_score=None)),
        lambda path: spoil(path, lambda s, m: s.pop("random_state")),
        lambda path: spoil(path, lambda s, m: s.update(random_state=torch.zeros(3, dtype=torch.uint8))),
        lambda path: spoil(path, lambda s, m: s.pop("best.encoder.embedding.weight")),
        lambda path: spoil(path, lambda s, m: s.pop("model.encoder.embedding.weight")),
        lambda path: spoil(path, lambda s, m: s.update({"best.encoder.embedding.weight": torch.zeros(2, 2)})),
        lambda path: spoil(path, lambda s, m: s.update({"optimizer.0.exp_avg": torch.zeros(2, 2)})),
        lambda path: spoil(path, lambda s, m: s.pop("optimizer.0.exp_avg")),
        lambda path: spoil(path, lambda s, m: s.update({"optimizer.x.exp_avg": torch.zeros(2, 2)})),
        lambda path: spoil(path, lambda s, m: s.update({"optimizer.999.exp_avg": torch.zeros(2, 2)})),
    ],
)
def test_a_damaged_checkpoint_is_named(tmp_path, damage):
    next(iter(trainer(tmp_path).epochs()))
    path = tmp_path / "checkpoint.safetensors"
    damage(path)
    with pytest.raises(BadFileError, match=r"checkpoint\.safetensors: "):
        trainer(tmp_path)


def test_a_checkpoint_of_another_model_is_named(tmp_path):
    next(iter(trainer(tmp_path).epochs()))
    with pytest.raises(BadFileError, match=r"(?s)belongs to a model with other settings: .*size mismatch"):
        trainer(tmp_path, replace(SETTINGS, model=config(2, channels=TINY, latent=9)))


def test_a_checkpoint_without_the_settings_of_its_run_is_refused(tmp_path):
    train_run(replace(SETTINGS, epochs=1), CRYSTALS, tmp_path)
    (tmp_path / "settings.json").unlink()
    with pytest.raises(BadFileError, match=r"settings\.json: missing beside a checkpoint"):
        train_run(replace(SETTINGS, epochs=2), CRYSTALS, tmp_path)


def test_a_write_that_fails_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    run = trainer(tmp_path)
    epochs = iter(run.epochs())
    next(epochs)
    whole = (tmp_path / "checkpoint.safetensors").read_bytes()

    def fail(*arguments, **more):
        (tmp_path / "checkpoint.safetensors.part").write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("dtnn_fast.training.checkpoint.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        next(epochs)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == whole


def test_a_loss_that_is_no_number_is_reported():
    run = trainer()
    with torch.no_grad():
        run.model.encoder.embedding.weight[0, 0] = float("nan")
    with pytest.raises(DTNNError, match=r"the loss became nan in epoch 1; a lower learning rate than 0.01 may help"):
        next(run.epochs())


@pytest.mark.parametrize("count", [0, 1, 9])
def test_too_few_crystals_are_reported(count, tmp_path):
    with pytest.raises(DTNNError, match=f"expected at least 10 crystals, to have some for validation, got {count}"):
        train_run(SETTINGS, CRYSTALS[:count], tmp_path)
    # The folder is free for the next attempt.
    assert train_run(replace(SETTINGS, epochs=1), CRYSTALS, tmp_path)["epochs"] == 1


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ({}, "no total dielectric tensor to learn from"),
        ({"electronic": np.eye(3)}, "no total dielectric tensor to learn from"),
        ({"total": np.eye(3) * np.nan}, "total dielectric tensor.*finite"),
        ({"total": np.ones(6)}, r"total dielectric tensor.*shape \[3, 3\], got \[6\]"),
    ],
    ids=["none", "another", "NaN", "shape"],
)
def test_a_crystal_without_a_usable_target_is_named(targets, message, tmp_path):
    crystals = [*CRYSTALS[:-1], replace(CRYSTALS[-1], targets=targets)]
    with pytest.raises(BadCrystalError, match=f"{CRYSTALS[-1].id}.*: .*{message}"):
        train_run(SETTINGS, crystals, tmp_path)
    assert not list(tmp_path.iterdir())


def test_two_crystals_of_one_id_are_named(tmp_path):
    with pytest.raises(ValueError, match=f"unique `ids`, got {CRYSTALS[0].id!r}"):
        train_run(SETTINGS, [*CRYSTALS, CRYSTALS[0]], tmp_path)
    assert not list(tmp_path.iterdir())

# SPDX-License-Identifier: MIT
"""Finished runs are joined into the run of an ensemble; runs that do not fit together are refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from model_cases import SMALL, config, labelled

from dtnn_fast import Ensemble
from dtnn_fast.encoders import NativeEncoder
from dtnn_fast.encoders.latent_cache import encode_crystals
from dtnn_fast.errors import BadFileError, DTNNError
from dtnn_fast.evaluation.runs import read_run
from dtnn_fast.model.error_calibration import ErrorCalibration
from dtnn_fast.training.ensemble_runs import alternate_members, join_runs, runs_by_split
from dtnn_fast.training.error_bars import Quantity, calibrate, coverage
from dtnn_fast.training.run_folder import MEMBERS_FOLDER, load_predictions
from dtnn_fast.training.train_run import train_run
from dtnn_fast.training.training_settings import TrainingSettings
from dtnn_fast.typed_settings import from_plain


@pytest.fixture(scope="module")
def crystals():
    return [crystal for crystal in labelled() if crystal.num_atoms <= 4][:120]


@pytest.fixture(scope="module")
def systems(crystals):
    return {crystal.id: crystal.info["crystal_system"] for crystal in crystals}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, crystals, systems):
    """An ensemble of two on one encoder, and a single model on another."""
    folder = tmp_path_factory.mktemp("runs")
    torch.set_num_threads(1)
    model = config(layer=2, bonds=False, joint=True, targets=("electronic", "ionic", "total"), channels=SMALL)
    settings = TrainingSettings(model, epochs=2, learning_rate=3e-3, batch_size=16)
    for place, name in enumerate(("several", "single")):
        torch.manual_seed(place)
        encoder = NativeEncoder(model.encoder, 2).eval()
        table = encode_crystals(encoder, crystals, (2,))
        members = [folder / name / MEMBERS_FOLDER / str(member) for member in range(2)]
        for member, run in enumerate(members if name == "several" else [folder / name]):
            train_run(replace(settings, member=member), crystals, run, encoder=encoder, latents=table)
        if name == "several":
            join_runs(folder / name, members, systems, one_encoder=True)
    return [folder / "several", folder / "single"]


def test_the_mean_of_all_members_with_error_bars(runs, crystals, systems, tmp_path):
    result = join_runs(tmp_path, runs, systems, "the command", "both")
    several, single = runs
    members = [load_predictions(several / MEMBERS_FOLDER / str(member) / "predictions.npz") for member in range(2)]
    members.append(load_predictions(single / "predictions.npz"))
    joined = load_predictions(tmp_path / "predictions.npz")
    assert (joined.ids, joined.parts) == (members[0].ids, members[0].parts)
    stacked = np.stack([part.predicted["ionic"] for part in members])
    np.testing.assert_allclose(joined.predicted["ionic"], stacked.mean(0))
    validation, test = (np.asarray(joined.parts) == part for part in ("validation", "test"))
    bars = result["error_bars"]["ionic"]
    for quantity, prefix in ((Quantity.tensor, ""), (Quantity.mean, "mean_")):
        made = calibrate(stacked[:, validation], joined.expected["ionic"][validation], quantity=quantity)
        # In another order of the crystals, means are rounded differently.
        (factor,), (expected,) = bars[f"{prefix}calibration"]["factors"], made.factors
        assert factor == pytest.approx(expected)
        covered = coverage(stacked[:, test], joined.expected["ionic"][test], made, quantity)
        assert bars[f"{prefix}test_coverage"] == covered.share
        assert bars[f"{prefix}test_coverage_by_third"] == list(covered.by_third)
    assert result["members"] == 3
    assert json.loads((tmp_path / "results.json").read_text()) == result
    model = Ensemble.from_pretrained(tmp_path / "model")
    for index, target in enumerate(model.targets):
        own = model.tensor_calibrations[index], model.mean_calibrations[index]
        recorded = (result["error_bars"][target][name] for name in ("calibration", "mean_calibration"))
        assert own == tuple(from_plain(ErrorCalibration, values) for values in recorded)
    some = [crystals[place] for place in (0, 5, 9)]
    places = [joined.ids.index(crystal.id) for crystal in some]
    np.testing.assert_allclose(model.predict(some, "ionic"), joined.predicted["ionic"][places], rtol=1e-3, atol=1e-3)
    run = read_run(tmp_path)
    assert (run.model, run.seed, run.is_baseline, run.layer) == ("both", 0, False, None)
    assert join_runs(tmp_path, runs, systems, "again", "both") == result


def test_runs_in_another_order_are_sorted(runs, systems, tmp_path):
    turned = tmp_path / "turned"
    shutil.copytree(runs[1], turned)
    predictions = load_predictions(turned / "predictions.npz")
    order = np.random.default_rng(0).permutation(len(predictions.ids))
    arrays = {
        f"{kind}_{t}": getattr(predictions, kind)[t][order]
        for kind in ("predicted", "expected")
        for t in predictions.expected
    }
    ids, parts = (np.array(values)[order] for values in (predictions.ids, predictions.parts))
    np.savez(turned / "predictions.npz", ids=ids, parts=parts, **arrays)
    straight = join_runs(tmp_path / "a", runs, systems)
    assert join_runs(tmp_path / "b", [runs[0], turned], systems)["errors"] == straight["errors"]


def change(folder, name, values):
    path = folder / name
    record = json.loads(path.read_text())
    for key, value in values.items():
        record[key] = value
    path.write_text(json.dumps(record))


def test_runs_that_do_not_belong_together_are_refused(runs, systems, tmp_path):
    other = tmp_path / "other"
    with pytest.raises(DTNNError, match="two runs or more"):
        join_runs(tmp_path / "joined", runs[:1], systems)
    shutil.copytree(runs[1], other)
    settings = json.loads((other / "settings.json").read_text())
    change(other, "settings.json", {"settings": {**settings["settings"], "seed": 1}})
    with pytest.raises(DTNNError, match="another split"):
        join_runs(tmp_path / "joined", [runs[0], other], systems)
    change(other, "settings.json", {"settings": settings["settings"], "data": {"digest": "other"}})
    with pytest.raises(DTNNError, match="other crystals"):
        join_runs(tmp_path / "joined", [runs[0], other], systems)
    change(other, "settings.json", {"settings": None})
    with pytest.raises(BadFileError, match="not the settings of a run"):
        join_runs(tmp_path / "joined", [runs[0], other], systems)
    change(other, "settings.json", settings)
    whole = json.loads((other / "results.json").read_text())
    change(other, "results.json", {"members": "3"})
    with pytest.raises(BadFileError, match=r"results\.json: expected `members` of 1 or more, got '3'"):
        join_runs(tmp_path / "joined", [runs[0], other], systems)
    (other / "results.json").write_text("{}")
    with pytest.raises(BadFileError, match=r"results\.json: expected a number `train_seconds`"):
        join_runs(tmp_path / "joined", [runs[0], other], systems)
    (other / "results.json").unlink()
    with pytest.raises(BadFileError, match=r"results\.json: missing"):
        join_runs(tmp_path / "joined", [runs[0], other], systems)
    (other / "results.json").write_text(json.dumps(whole))
    shutil.rmtree(other / "model")
    shutil.copytree(runs[0] / "model", other / "model")
    with pytest.raises(BadFileError, match="expected a model with the 1 members of the run's results, got 2"):
        join_runs(tmp_path / "joined", [runs[0], other], systems)
    arrays = np.load(other / "predictions.npz")
    np.savez(other / "predictions.npz", **{name: arrays[name] for name in arrays.files if "total" not in name})
    with pytest.raises(DTNNError, match=r"expected predictions of electronic, ionic, total as in .*, got elec"):
        join_runs(tmp_path / "joined", [runs[0], other], systems)
    with pytest.raises(DTNNError, match="other crystals than those given"):
        join_runs(tmp_path / "joined", runs, {})
    shutil.rmtree(other)
    shutil.copytree(runs[1], other, ignore=shutil.ignore_patterns("model"))
    with pytest.raises(BadFileError, match="the folder of a saved model"):
        join_runs(tmp_path / "joined", [runs[0], other], systems)
    several = tmp_path / "several"
    shutil.copytree(runs[0], several, ignore=shutil.ignore_patterns(MEMBERS_FOLDER))
    with pytest.raises(BadFileError, match=MEMBERS_FOLDER):
        join_runs(tmp_path / "joined", [several, runs[1]], systems)
    assert not (tmp_path / "joined").exists()


def test_a_member_counts_once(runs, systems, tmp_path):
    for twice in ([runs[1], runs[1]], [runs[0], runs[0] / MEMBERS_FOLDER / "1"]):
        with pytest.raises(DTNNError, match=r"ensemble: .* and .* predict the same: a member may count once"):
            join_runs(tmp_path / "joined", twice, systems)
    assert not (tmp_path / "joined").exists()


def test_an_ensemble_of_an_ensemble(runs, systems, tmp_path):
    both, other = tmp_path / "both", tmp_path / "other"
    join_runs(both, runs, systems)
    shutil.copytree(runs[1], other)
    arrays = np.load(other / "predictions.npz")
    moved = {name: arrays[name] + 0.1 * name.startswith("predicted") for name in arrays.files if "_" in name}
    np.savez(other / "predictions.npz", ids=arrays["ids"], parts=arrays["parts"], **moved)
    result = join_runs(tmp_path / "all", [both, other], systems)
    assert result["members"] == 4
    members = [load_predictions(both / MEMBERS_FOLDER / str(member) / "predictions.npz") for member in range(3)]
    members.append(load_predictions(other / "predictions.npz"))
    joined = load_predictions(tmp_path / "all" / "predictions.npz").predicted["total"]
    np.testing.assert_allclose(joined, np.mean([part.predicted["total"] for part in members], 0))
    assert len(Ensemble.from_pretrained(tmp_path / "all" / "model").models) == 3


def test_folders_are_taken_split_by_split(tmp_path):
    for model, splits in (("a", (0, 10, 2)), ("b", (2, 0, 10)), ("c", (0,))):
        for split in splits:
            folder = tmp_path / model / f"split-{split}"
            folder.mkdir(parents=True)
            (folder / "settings.json").write_text("{}")
    a, b, c = (tmp_path / name for name in "abc")
    (a / "split-0b").mkdir()
    assert runs_by_split([a, b]) == {split: [a / f"split-{split}", b / f"split-{split}"] for split in (0, 2, 10)}
    assert list(runs_by_split([a, b])) == [0, 2, 10]
    assert runs_by_split([a / "split-0", c / "split-0"]) == {None: [a / "split-0", c / "split-0"]}
    with pytest.raises(DTNNError, match="same splits"):
        runs_by_split([a, c])
    with pytest.raises(DTNNError, match="same splits"):
        runs_by_split([a, c / "split-0"])
    with pytest.raises(BadFileError, match="found no run"):
        runs_by_split([a, tmp_path / "none"])


def test_members_are_taken_in_turn(runs, crystals, systems, tmp_path):
    first, second = tmp_path / "one", tmp_path / "other"
    for folder in (first, second):
        shutil.copytree(runs[0], folder)
    chosen = alternate_members([first, second], 2)
    assert chosen == [first / MEMBERS_FOLDER / "0", second / MEMBERS_FOLDER / "1"]
    result = join_runs(tmp_path / "joined", chosen, systems)
    assert result["members"] == 2
    expected = load_predictions(runs[0] / "predictions.npz").predicted["total"]
    joined = load_predictions(tmp_path / "joined" / "predictions.npz").predicted["total"]
    np.testing.assert_allclose(joined, expected)
    with pytest.raises(DTNNError, match="a member from each of the 2 runs or more, got 1 in total"):
        alternate_members([first, second], 1)
    with pytest.raises(
        BadFileError, match="one: found no run of member 2: expected a run of train --members with at least 3 members"
    ):
        alternate_members([first, second], 3)
    with pytest.raises(BadFileError, match="single: found no run of member 1"):
        alternate_members(runs, 2)

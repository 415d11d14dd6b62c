# SPDX-License-Identifier: MIT
"""dtnn-fast train with encoders that exist: frozen, cached, finetuned, in ensembles; and what it refuses."""

import csv
import json

import numpy as np
import pytest
import torch

from dtnn_fast.cli.options import parse_layers
from dtnn_fast.encoders import Channels, NativeEncoder, NativeEncoderConfig
from dtnn_fast.encoders.build import load_encoder, save_encoder
from dtnn_fast.model.dtnn import DTNN, bundled_encoder
from dtnn_fast.model.ensemble_model import Ensemble
from dtnn_fast.model.load_predictor import load_predictor
from dtnn_fast.training.run_folder import load_predictions

SMALL = ["--set", "decoder.latent=8", "--set", "decoder.dropout=0", "--learning-rate", "0.01", "--epochs", "2"]


@pytest.fixture
def encoder(tmp_path):
    torch.manual_seed(0)
    save_encoder(NativeEncoder(NativeEncoderConfig(channels=Channels(8, 4, 4))), tmp_path / "encoder", {"name": "none"})
    return tmp_path / "encoder"


@pytest.fixture
def data(tmp_path, labelled, row_of):
    """A hundred small crystals, and one with an element that no potential knows."""
    small = [crystal for crystal in labelled if crystal.num_atoms < 5 and crystal.targets["total"].max() < 100]
    rows = [row_of(crystal) for crystal in small[:100]]
    rows.append({**rows[0], "id": "radium", "atomic_numbers": [88] * len(rows[0]["atomic_numbers"])})
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def weights(folder):
    return {name: value for name, value in DTNN.from_pretrained(folder).state_dict().items() if "encoder" in name}


def test_a_saved_encoder_stays_and_its_latents_are_kept(program, data, encoder, tmp_path):
    cache, folder = tmp_path / "cache", tmp_path / "run"
    arguments = ["train", data, "--encoder", encoder, "--layer", "2,3", "--cache", cache, *SMALL]
    assert program(*arguments, "--output", folder, "--splits", "0-1").exit_code == 0
    assert len(list(cache.iterdir())) == 1
    first, second = weights(folder / "split-0" / "model"), weights(folder / "split-1" / "model")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    settings = json.loads((folder / "split-0" / "settings.json").read_text())["settings"]
    assert settings["frozen"]
    assert settings["start"]
    assert program(*arguments, "--finetune", "--output", tmp_path / "tuned").exit_code == 0
    tuned = weights(tmp_path / "tuned" / "model")
    assert not all(torch.equal(first[name], tuned[name]) for name in first)


def test_an_ensemble_with_error_bars(program, data, encoder, tmp_path, labelled):
    folder = tmp_path / "run"
    arguments = [
        "train",
        data,
        "--encoder",
        encoder,
        "--cache",
        tmp_path / "cache",
        "--target",
        "all",
        "--joint",
        *SMALL,
    ]
    result = program(*arguments, "--members", 2, "--output", folder, "--set", "training.average=0.9")
    assert result.exit_code == 0
    assert "Test errors of the ensemble, seed 0: total" in result.stdout
    assert "of the test crystals are within the error bar of their tensor" in result.stdout
    bar = json.loads((folder / "results.json").read_text())["error_bars"]["ionic"]
    thirds = ", ".join(f"{100 * share:.0f}" for share in bar["mean_test_coverage_by_third"])
    printed = f"{100 * bar['mean_test_coverage']:.0f} % within that of their mean (thirds by size: {thirds} %)"
    assert printed in " ".join(result.stdout.split())
    screened = program("screen", data, "--model", folder / "model", "--output", tmp_path / "screening")
    assert screened.exit_code == 0
    with (tmp_path / "screening" / "ranking.csv").open() as file:
        assert all(
            float(row[name]) > 0 for row in csv.DictReader(file) for name in ("total_tensor_error", "total_mean_error")
        )
    shown = program("predict", data, "--model", folder / "model", "--json", "--output", tmp_path / "one.json")
    assert shown.exit_code == 0
    crystal = json.loads((tmp_path / "one.json").read_text())["crystals"][0]
    assert all(values[name] > 0 for values in crystal["tensors"].values() for name in ("tensor_error", "mean_error"))
    tensors, errors = DTNN.from_pretrained(folder / "model").predict_with_errors(labelled[:3], "total")
    assert np.isfinite(tensors).all()
    assert (errors > 0).all()


@pytest.mark.parametrize("start", ["distilled", "random"])
def test_an_ensemble_with_an_encoder_for_each_member(program, data, encoder, tmp_path, labelled, start):
    options = ["--encoder", encoder, "--finetune"] if start == "distilled" else ["--set", "encoder.channels=8,4,4"]
    folder = tmp_path / "run"
    answer = program("train", data, *options, "--layer", "2", *SMALL, "--members", 2, "--output", folder)
    assert answer.exit_code == 0, answer.output
    assert "of the test crystals are within the error bar of their tensor" in answer.stdout
    model = load_predictor(folder / "model")
    assert isinstance(model, Ensemble)
    one, two = (part.encoder.state_dict() for part in model.models)
    assert not all(torch.equal(one[name], two[name]) for name in one)
    members = [DTNN.from_pretrained(folder / "members" / member / "model") for member in "01"]
    tensors, errors = model.predict_with_errors(labelled[:3], "total")
    np.testing.assert_allclose(tensors, np.mean([m.predict(labelled[:3], "total") for m in members], 0), atol=1e-6)
    assert (errors > 0).all()


def test_members_that_share_an_encoder_that_is_trained(program, data, encoder, tmp_path, labelled):
    folder, other = tmp_path / "run", tmp_path / "other"
    arguments = ["train", data, "--encoder", encoder, "--finetune", "--layer", "2", *SMALL, "--members", 2]
    answer = program(*arguments, "--set", "ensemble.share_encoder=true", "--output", folder)
    assert answer.exit_code == 0, answer.output
    assert "of the test crystals are within the error bar of their tensor" in answer.stdout
    model = load_predictor(folder / "model")
    assert isinstance(model, DTNN)
    assert model.config.members == 2
    bar = json.loads((folder / "results.json").read_text())["error_bars"]["total"]
    assert [own.to_json() for own in model.config.tensor_calibrations] == [bar["calibration"]]
    assert [own.to_json() for own in model.config.mean_calibrations] == [bar["mean_calibration"]]
    start = load_encoder(encoder, 2).state_dict()
    assert not all(torch.equal(start[name], value) for name, value in model.encoder.state_dict().items())
    # The predictions on record are those of the saved model, member by member.
    parts = [load_predictions(folder / "members" / member / "predictions.npz") for member in "01"]
    places = {crystal.id: crystal for crystal in labelled}
    crystals = [places[id] for id in parts[0].select_part("test").ids]
    members = model.predict_members(crystals)["total"]
    for part, tensors in zip(parts, members, strict=True):
        np.testing.assert_allclose(part.select_part("test").predicted["total"], tensors, atol=1e-4)
    assert np.abs(members[0] - members[1]).max() > 1e-3
    # As good as any other member for an ensemble of several encoders.
    assert program(*arguments, "--output", other).exit_code == 0
    answer = program("ensemble", folder, other, "--data", data, "--output", tmp_path / "both")
    assert answer.exit_code == 0, answer.output
    assert json.loads((tmp_path / "both" / "results.json").read_text())["members"] == 4


@pytest.mark.parametrize("share", [[], ["--finetune"], ["--finetune", "--set", "ensemble.share_encoder=true"]])
def test_an_ensemble_on_few_crystals_has_no_error_bars(program, few_crystals, encoder, tmp_path, labelled, share):
    arguments = ["train", few_crystals, "--encoder", encoder, "--layer", "2", *SMALL, "--members", 2, *share]
    answer = program(*arguments, "--cache", tmp_path / "cache", "--output", tmp_path / "run")
    assert answer.exit_code == 0, answer.output
    assert "no error bars: members have fewer than 9 validation crystals in common" in " ".join(answer.stderr.split())
    model = load_predictor(tmp_path / "run" / "model")
    assert model.error_scales == ()
    assert model.predict(labelled[:2], "total").shape == (2, 3, 3)
    assert (tmp_path / "run" / "members" / "1" / "predictions.npz").exists()


def test_a_pretrained_potential(program, data, tmp_path):
    pytest.importorskip("sevenn")
    folder = tmp_path / "run"
    arguments = ["--encoder", "sevennet-0", "--layer", "1-3", "--no-bonds", "--cache", tmp_path / "cache"]
    result = program("train", data, *arguments, *SMALL, "--output", folder)
    assert result.exit_code == 0
    assert "100 crystals to learn from, 1 rejected" in result.stderr
    assert "element Ra is unknown" in (folder / "rejected.csv").read_text()
    model = DTNN.from_pretrained(folder / "model")
    assert model.config.encoder.kind == "sevennet-0"
    assert not [name for name in model.state_dict() if name.startswith("encoder")]
    screened = program("screen", data, "--model", folder / "model", "--output", tmp_path / "screening")
    assert screened.exit_code == 3  # all but radium


def test_a_model_of_other_weights_is_refused(program, data, tmp_path):
    pytest.importorskip("sevenn")
    arguments = ["--encoder", "sevennet-0", "--layer", "1", "--no-bonds", "--cache", tmp_path / "cache"]
    program("train", data, *arguments, *SMALL, "--output", tmp_path / "run")
    path = tmp_path / "run" / "model" / "config.json"
    config = json.loads(path.read_text())
    config["encoder"]["digest"] = "0" * 64
    path.write_text(json.dumps(config))
    result = program("screen", data, "--model", tmp_path / "run" / "model", "--output", tmp_path / "screening")
    assert result.exit_code != 0
    assert "expected sevennet-0 with weights of SHA-256 7052cb42" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--encoder", "mace"],
            "expected native, sevennet-0, sevennet-l3i5, distilled, or the folder of a saved encoder",
        ),
        (["--encoder", "native", "--finetune"], "needs a native encoder with saved weights"),
        (["--layer", "0"], "expected layers from 1 to 5"),
        (["--layer", "4-9"], "expected layers from 1 to 5"),
        (["--layer", "x"], "expected layers from 1 to 5"),
        (["--joint"], "needs --target all"),
        (["--set", "decoder.positive=all"], "expected `decoder.positive` to be one of electronic, ionic, total"),
        (
            ["--set", "ensemble.share_encoder=true", "--encoder", "distilled", "--finetune"],
            "needs --members of 2 or more",
        ),
        (
            [*("--set", "ensemble.share_encoder=true", "--set", "ensemble.rotate=true"), "--members", "2"],
            "without ensemble.rotate",
        ),
        (
            ["--set", "ensemble.share_encoder=true", "--members", "2", "--encoder", "distilled", "--layer", "3"],
            "needs an encoder that is trained",
        ),
        (["--members", "1", "--set", "ensemble.rotate=true"], "needs --members from 2 to 9"),
    ],
)
def test_options_that_contradict_each_other(program, data, tmp_path, arguments, message):
    result = program("train", data, *arguments, "--set", "encoder.channels=8,4,4", "--output", tmp_path / "run")
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_layers():
    assert parse_layers("4") == (4,)
    assert parse_layers("3,2") == (2, 3)
    assert parse_layers("1-5") == (1, 2, 3, 4, 5)


def test_a_folder_without_an_encoder(program, data, tmp_path):
    (tmp_path / "empty").mkdir()
    result = program("train", data, "--encoder", tmp_path / "empty", "--output", tmp_path / "run")
    assert result.exit_code == 2
    assert "not the folder of a saved encoder" in " ".join(result.stderr.split())


def test_the_bundled_encoder(program, data, tmp_path):
    folder, cache = tmp_path / "run", tmp_path / "cache"
    result = program("train", data, "--encoder", "distilled", "--layer", "2", "--cache", cache, *SMALL, "-o", folder)
    assert result.exit_code == 0
    ours, theirs = DTNN.from_pretrained(folder / "model").encoder.state_dict(), bundled_encoder().state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_a_layer_that_the_encoder_lacks(program, data, encoder, tmp_path):
    save_encoder(NativeEncoder(NativeEncoderConfig((3.0,), (7.0,), Channels(8, 4, 4))), tmp_path / "one", {})
    result = program("train", data, "--encoder", tmp_path / "one", "--layer", "2", "--output", tmp_path / "run")
    assert result.exit_code == 2
    assert "expected `num_layers` from 1 to 1, got 2" in " ".join(result.stderr.replace("│", " ").split())


def test_an_ensemble_of_several_encoders(program, data, encoder, tmp_path):
    torch.manual_seed(1)
    other = tmp_path / "other"
    save_encoder(NativeEncoder(NativeEncoderConfig(channels=Channels(12, 6, 6))), other, {"name": "none"})
    rotate = ["--members", "2", "--set", "ensemble.rotate=true"]
    for name, place in (("one", encoder), ("two", other)):
        arguments = ["train", data, "--encoder", place, "--layer", "2", "--cache", tmp_path / "cache", *SMALL, *rotate]
        answer = program(*arguments, "--output", tmp_path / name, "--splits", "0-1")
        assert answer.exit_code == 0
        assert "no error bars: members have fewer than 9 validation crystals in common" in " ".join(
            answer.stderr.split()
        )
    parts = [load_predictions(tmp_path / "one" / "split-0" / "members" / member / "predictions.npz") for member in "01"]
    assert parts[0].select_part("test").ids == parts[1].select_part("test").ids
    assert not set(parts[0].select_part("validation").ids) & set(parts[1].select_part("validation").ids)
    runs, output = [tmp_path / "one", tmp_path / "two"], tmp_path / "mixed"
    answer = program("ensemble", *runs, "--data", data, "--output", output, "--label", "two encoders")
    assert answer.exit_code == 0, answer.output
    assert "of the test crystals are within the error bar of their tensor" in answer.output
    summary = json.loads((output / "summary.json").read_text())
    assert set(summary["splits"]) == {"0", "1"}
    assert json.loads((output / "split-1" / "settings.json").read_text())["label"] == "two encoders"

    arguments = ["ensemble", *runs, "--data", data, "--members"]
    answer = program(*arguments, 2, "--output", tmp_path / "some")
    assert answer.exit_code == 0, answer.output
    assert json.loads((tmp_path / "some" / "split-0" / "results.json").read_text())["members"] == 2
    assert "no error bars" in " ".join(answer.stderr.split())
    assert program(*arguments, 5, "--output", tmp_path / "more").exit_code == 2
    assert not (tmp_path / "more").exists()

    predicted = program("predict", data, "--model", output / "split-0" / "model", "--json")
    assert predicted.exit_code == 0
    first = json.loads(predicted.stdout)["crystals"][0]
    assert first["tensors"]["total"]["tensor_error"] > 0
    assert first["tensors"]["total"]["mean_error"] > 0
    assert program("train", data, "--encoder", encoder, *rotate[2:], "--output", tmp_path / "alone").exit_code == 2
    assert program("ensemble", tmp_path / "one", "--data", data, "--output", tmp_path / "alone").exit_code == 2
    answer = program("ensemble", *runs, "--output", tmp_path / "without")
    assert answer.exit_code == 2
    assert "other crystals than those given" in " ".join(answer.output.split())

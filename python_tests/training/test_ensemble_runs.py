# SPDX-License-Identifier: MIT
"""Members on one encoder, joined: the mean, saved as one model, with error bars."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from model_cases import SMALL, config, labelled

from dtnn_fast.encoders import NativeEncoder
from dtnn_fast.encoders.latent_cache import encode_crystals
from dtnn_fast.errors import BadFileError, DTNNError
from dtnn_fast.evaluation.runs import find_runs
from dtnn_fast.model.dtnn import DTNN
from dtnn_fast.model.ensemble_model import join_members
from dtnn_fast.model.error_calibration import ErrorCalibration
from dtnn_fast.training.ensemble_runs import join_runs
from dtnn_fast.training.run_folder import MEMBERS_FOLDER, load_predictions
from dtnn_fast.training.train_run import train_run
from dtnn_fast.training.training_settings import TrainingSettings
from dtnn_fast.typed_settings import from_plain


@pytest.fixture(scope="module", params=[True, False], ids=["joint", "separate"])
def trained(request, tmp_path_factory):
    """A run of three members on 120 crystals, and what came out."""
    folder = tmp_path_factory.mktemp("ensemble")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = config(layer=2, bonds=False, joint=request.param, targets=("electronic", "ionic", "total"), channels=SMALL)
    encoder = NativeEncoder(model.encoder, 2).eval()
    crystals = [crystal for crystal in labelled() if crystal.num_atoms <= 5][:120]
    settings = TrainingSettings(model, epochs=2, learning_rate=3e-3, batch_size=16)
    table = encode_crystals(encoder, crystals, (2,))
    places = [folder / MEMBERS_FOLDER / str(member) for member in range(3)]
    for member, place in enumerate(places):
        train_run(replace(settings, member=member), crystals, place, encoder=encoder, latents=table)
    systems = {crystal.id: crystal.info["crystal_system"] for crystal in crystals}
    result = join_runs(folder, places, systems, "the command", "ours", one_encoder=True)
    return folder, places, systems, crystals, result


def test_the_model_is_the_mean_of_the_members(trained):
    folder, places, _, crystals, _ = trained
    members = [DTNN.from_pretrained(place / "model") for place in places]
    whole = DTNN.from_pretrained(folder / "model")
    assert whole.config.members == 3
    for target in ("electronic", "ionic", "total"):
        single = [member.predict(crystals[:7], target) for member in members]
        assert np.abs(single[0] - single[1]).max() > 1e-3
        np.testing.assert_allclose(whole.predict(crystals[:7], target), np.mean(single, 0), rtol=1e-5, atol=1e-5)
    alone = whole.with_targets(["ionic"])
    np.testing.assert_array_equal(alone.predict(crystals[:3]), whole.predict(crystals[:3], "ionic"))
    assert len(whole.tensor_calibrations) == len(whole.mean_calibrations) == 3
    assert alone.config.tensor_calibrations == whole.config.tensor_calibrations[1:2]
    assert alone.config.mean_calibrations == whole.config.mean_calibrations[1:2]


def test_error_bars_come_with_the_prediction(trained):
    folder, places, _, crystals, result = trained
    whole = DTNN.from_pretrained(folder / "model")
    tensors, errors = whole.predict_with_errors(crystals[:5], "total")
    np.testing.assert_allclose(tensors, whole.predict(crystals[:5], "total"), rtol=1e-6, atol=1e-6)
    single = np.stack([DTNN.from_pretrained(place / "model").predict(crystals[:5], "total") for place in places])
    unique = single.std(0)[:, [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    tensor_bar, mean_bar = (
        from_plain(ErrorCalibration, result["error_bars"]["total"][name])
        for name in ("calibration", "mean_calibration")
    )
    # With 12 calibrating crystals there is one factor.
    assert len(tensor_bar.factors) == len(mean_bar.factors) == 1
    expected = tensor_bar.factors[0] * np.sqrt((unique**2).mean(1))
    np.testing.assert_allclose(errors, expected, rtol=1e-4)
    means, mean_errors = whole.predict_mean_with_errors(crystals[:5], "total")
    np.testing.assert_allclose(means, np.trace(tensors, axis1=1, axis2=2) / 3, rtol=1e-6, atol=1e-6)
    spread = (np.trace(single, axis1=2, axis2=3) / 3).std(0)
    np.testing.assert_allclose(mean_errors, mean_bar.factors[0] * spread, rtol=1e-4)
    with pytest.raises(ValueError, match="expected an ensemble with calibrated error bars"):
        DTNN.from_pretrained(places[0] / "model").predict_with_errors(crystals[:1], "total")


def test_what_is_recorded(trained):
    folder, places, _, _, result = trained
    assert json.loads((folder / "results.json").read_text()) == result
    assert set(result["errors"]["total"]) == {"test", "validation", "train"}
    for bar in result["error_bars"].values():
        for prefix in ("", "mean_"):
            assert 0 <= bar[f"{prefix}test_coverage"] <= 1
            thirds = bar[f"{prefix}test_coverage_by_third"]
            assert len(thirds) == 3
            assert np.mean(thirds) == pytest.approx(bar[f"{prefix}test_coverage"])  # 12 test crystals, 4 in each
    members = [load_predictions(place / "predictions.npz").predicted["total"] for place in places]
    np.testing.assert_allclose(load_predictions(folder / "predictions.npz").predicted["total"], np.mean(members, 0))
    found, rejected = find_runs([folder])
    assert (found, rejected) == ([folder], [])


def test_members_that_do_not_belong_together_are_refused(trained, tmp_path):
    folder, places, systems, crystals, _ = trained
    settings = json.loads((places[1] / "settings.json").read_text())
    settings["settings"]["learning_rate"] = 1.0
    for name in ("results.json", "predictions.npz"):
        (tmp_path / name).write_bytes((places[1] / name).read_bytes())
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    with pytest.raises(DTNNError, match="trained with other settings than"):
        join_runs(tmp_path / "whole", [places[0], tmp_path], systems, one_encoder=True)
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(BadFileError, match=r"results\.json: cannot be read"):
        join_runs(tmp_path / "whole", [places[0], tmp_path], systems, one_encoder=True)
    first, second = (DTNN.from_pretrained(place / "model") for place in places[:2])
    with torch.no_grad():
        second.encoder.embedding.weight.add_(1.0)
    with pytest.raises(ValueError, match="that of model 1 has other weights"):
        join_members([first, second])
    with pytest.raises(ValueError, match="model 1 has others"):
        join_members([first, first.with_targets(["total"])])
    with pytest.raises(ValueError, match="at least one model"):
        join_members([])
    assert DTNN.from_pretrained(folder / "model").predict(crystals[:1], "total").shape == (1, 3, 3)

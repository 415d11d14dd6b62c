# SPDX-License-Identifier: MIT
"""An ensemble is the mean of all members of its models, and comes back from its folder."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from model_cases import SMALL, config, labelled

import dtnn_fast
from dtnn_fast import DTNN, Ensemble
from dtnn_fast.encoders import Channels
from dtnn_fast.errors import BadCrystalError, BadFileError
from dtnn_fast.model.ensemble_model import join_members
from dtnn_fast.model.load_predictor import load_predictor
from dtnn_fast.screening.engine import screen_crystals

TARGETS = ("electronic", "total")
SCALES = {"electronic": 2.0, "total": 3.0}
MEAN_SCALES = {"total": 5.0, "electronic": 4.0}


def model(seed: int, elements: tuple[int, ...] = (), **changes) -> DTNN:
    torch.manual_seed(seed)
    settings = config(**{"layer": 2, "targets": TARGETS, "channels": SMALL, **changes})
    return DTNN(replace(settings, elements=elements)).eval()


@pytest.fixture(scope="module")
def models():
    """A single model, and an ensemble of two on a wider encoder."""
    first, second = model(1, channels=Channels(12, 6, 6)), model(1, channels=Channels(12, 6, 6))
    torch.manual_seed(2)
    for part in second.decoders.parameters():
        torch.nn.init.normal_(part, std=0.1)
    return [model(0), join_members([first, second])]


@pytest.fixture(scope="module")
def crystals():
    return [crystal for crystal in labelled() if crystal.num_atoms <= 6][:9]


def test_every_member_counts_the_same(models, crystals):
    ensemble = Ensemble(models, SCALES, MEAN_SCALES)
    for target in TARGETS:
        single, double = (part.predict(crystals, target) for part in models)
        np.testing.assert_allclose(ensemble.predict(crystals, target), (single + 2 * double) / 3, rtol=1e-5, atol=1e-5)
    tensors, bars = ensemble.predict_with_errors(crystals, "total")
    members = ensemble.predict_members(crystals)["total"]
    assert members.shape == (3, len(crystals), 3, 3)
    np.testing.assert_allclose(tensors, members.mean(0), rtol=1e-5, atol=1e-6)
    unique = members[:, :, [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    np.testing.assert_allclose(bars, 3 * np.sqrt(unique.var(0).mean(1)), rtol=1e-4)
    means, mean_bars = ensemble.predict_mean_with_errors(crystals, "total")
    member_means = np.trace(members, axis1=2, axis2=3) / 3
    np.testing.assert_allclose(means, member_means.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mean_bars, 5 * member_means.std(0), rtol=1e-4)


def test_screening_takes_it(models, crystals):
    ensemble = Ensemble(models, SCALES, MEAN_SCALES)
    predictions, rejected = screen_crystals(ensemble, crystals)
    assert not rejected
    tensors, bars = ensemble.predict_with_errors(crystals, "electronic")
    np.testing.assert_allclose(predictions.tensors["electronic"], tensors, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(predictions.errors["electronic"], bars, rtol=1e-3, atol=1e-4)
    _, mean_bars = ensemble.predict_mean_with_errors(crystals, "electronic")
    np.testing.assert_allclose(predictions.mean_errors["electronic"], mean_bars, rtol=1e-3, atol=1e-4)


def test_it_comes_back_from_its_folder(models, crystals, tmp_path):
    ensemble = Ensemble(models, SCALES, MEAN_SCALES)
    ensemble.save(tmp_path / "saved")
    back = Ensemble.from_pretrained(tmp_path / "saved")
    assert (back.targets, back.error_scales, back.training) == (TARGETS, (2.0, 3.0), False)
    assert back.mean_error_scales == (4.0, 5.0)
    np.testing.assert_array_equal(back.predict(crystals, "total"), ensemble.predict(crystals, "total"))
    assert isinstance(load_predictor(tmp_path / "saved"), Ensemble)
    assert isinstance(load_predictor(tmp_path / "saved" / "0"), DTNN)
    with pytest.raises(BadFileError, match=r"load it with dtnn_fast\.Ensemble"):
        DTNN.from_pretrained(tmp_path / "saved")
    assert dtnn_fast.Ensemble is Ensemble


def test_without_scales_there_are_no_error_bars(models, crystals):
    with pytest.raises(ValueError, match="calibrated error bars"):
        Ensemble(models).predict_with_errors(crystals, "total")
    with pytest.raises(ValueError, match="calibrated error bars of means"):
        Ensemble(models, SCALES).predict_mean_with_errors(crystals, "total")


def test_an_ensemble_of_version_0_1_0_has_no_error_bars_of_means(models, tmp_path):
    Ensemble(models, SCALES, MEAN_SCALES).save(tmp_path)
    path = tmp_path / "ensemble.json"
    record = json.loads(path.read_text())
    del record["mean_error_scales"]
    path.write_text(json.dumps(record))
    back = Ensemble.from_pretrained(tmp_path)
    assert (back.error_scales, back.mean_error_scales) == ((2.0, 3.0), ())


def test_only_elements_that_all_know(crystals):
    numbers = sorted({int(z) for crystal in crystals for z in crystal.atomic_numbers})
    known, fewer = tuple(numbers), tuple(numbers[:-1])
    ensemble = Ensemble([model(0, elements=known), model(1, elements=fewer)])
    assert ensemble.elements == fewer
    with pytest.raises(BadCrystalError):
        ensemble.predict(crystals, "total")
    assert Ensemble([model(0), model(1, elements=fewer)]).elements == fewer
    with pytest.raises(ValueError, match="elements in common"):
        Ensemble([model(0, elements=(1,)), model(1, elements=(2,))])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda one: Ensemble([one]), "two models or more, got 1"),
        (lambda one: Ensemble([one, one.with_targets(["total"])]), "model 1 predicts total"),
        (lambda one: Ensemble([one, one], {"total": 1.0}), "`error_scales` for electronic, total"),
        (lambda one: Ensemble([one, one], {"total": 1.0, "electronic": -1.0}), "0 or more"),
        (lambda one: Ensemble([one, one], {"total": 1.0, "electronic": float("nan")}), "0 or more"),
        (lambda one: Ensemble([one, one], None, {"total": 1.0}), "`mean_error_scales` for electronic, total"),
    ],
)
def test_what_does_not_go_together_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(model(0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.update(format="other"), "expected the format"),
        (lambda record: record.pop("models"), "number of `models`"),
        (lambda record: record.update(models=1), "two models or more"),
        (lambda record: record.update(models=3), "2"),
        (lambda record: record.update(error_scales=[1.0, 2.0]), "object `error_scales`"),
        (lambda record: record.update(error_scales={"total": "much"}), "expected numbers"),
        (lambda record: record.update(error_scales={"total": 1.0}), "`error_scales` for"),
        (lambda record: record.update(mean_error_scales=[1.0]), "object `mean_error_scales`"),
        (lambda record: record.update(mean_error_scales={"total": "much"}), "expected numbers as `mean_error_scales`"),
    ],
)
def test_a_damaged_folder_says_so(models, tmp_path, change, message):
    Ensemble(models, SCALES).save(tmp_path)
    path = tmp_path / "ensemble.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(BadFileError, match=message):
        Ensemble.from_pretrained(tmp_path)
    path.write_text("{")
    with pytest.raises(BadFileError, match="cannot be read"):
        Ensemble.from_pretrained(tmp_path)
    path.unlink()
    with pytest.raises(BadFileError, match="missing"):
        Ensemble.from_pretrained(tmp_path)

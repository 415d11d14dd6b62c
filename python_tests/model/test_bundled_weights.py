# SPDX-License-Identifier: MIT
"""The bundled weights give, with the code as it is, the errors that were recorded when they were trained."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dtnn_fast import DTNN
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.datasets.cleaning import clean
from dtnn_fast.datasets.splits import split
from dtnn_fast.model.bundled_model import bundled_folder
from dtnn_fast.model.decoder import BOUNDS
from dtnn_fast.model.error_calibration import ErrorCalibration
from dtnn_fast.screening.engine import screen_crystals
from dtnn_fast.training.error_bars import Quantity, calibrate
from dtnn_fast.training.metrics import METRICS, crystal_errors, summarise
from dtnn_fast.typed_settings import from_plain


def test_recorded_test_errors():
    record = json.loads((bundled_folder() / "training.json").read_text(encoding="utf-8"))
    crystals, _ = clean(load_labelled())
    test = [crystals[i] for i in split([crystal.id for crystal in crystals], record["settings"]["seed"]).test]
    predicted = DTNN.from_pretrained("dielectric").predict_targets(test)
    for target, tensors in predicted.items():
        expected = np.array([crystal.targets[target] for crystal in test])
        errors = summarise(tensors, expected, [crystal.info["crystal_system"] for crystal in test])
        recorded = record["errors"][target]["test"]["all"]
        for metric in METRICS:
            assert errors["all"][metric] == pytest.approx(recorded[metric], rel=1e-4)
        assert errors["all"]["mae_ten"] < 0.7 * record["median_model"][target]["all"]["mae_ten"]


def test_recorded_error_bars_hold_on_test_crystals():
    """The bar of a number is one of that number: 80 to 98 % of the errors are within it, as many as recorded."""
    record = json.loads((bundled_folder() / "training.json").read_text(encoding="utf-8"))
    crystals, _ = clean(load_labelled())
    parts = split([crystal.id for crystal in crystals], record["settings"]["seed"])
    test = [crystals[i] for i in parts.test]
    model = DTNN.from_pretrained("dielectric")
    screened, _ = screen_crystals(model, test)
    for index, target in enumerate(model.targets):
        errors = crystal_errors(screened.tensors[target], screened.known[target])
        within_tensor_error = (errors["mae_ten"] <= screened.errors[target]).mean()
        within_mean_error = (errors["mae_mean_diag"] <= screened.mean_errors[target]).mean()
        bar = record["error_bars"][target]
        assert within_tensor_error == pytest.approx(bar["test_coverage"], abs=0.011)  # one crystal of 94
        assert within_mean_error == pytest.approx(bar["mean_test_coverage"], abs=0.011)
        assert 0.8 <= within_tensor_error <= 0.98
        assert 0.8 <= within_mean_error <= 0.98
        own = model.tensor_calibrations[index], model.mean_calibrations[index]
        for calibration, prefix in zip(own, ("", "mean_"), strict=True):
            if f"{prefix}scale" in bar:  # of a model that was calibrated by one factor
                assert calibration.factors == pytest.approx((bar[f"{prefix}scale"],))
            else:
                assert calibration == from_plain(ErrorCalibration, bar[f"{prefix}calibration"])


def test_error_bars_were_calibrated_on_validation_crystals():
    record = json.loads((bundled_folder() / "training.json").read_text(encoding="utf-8"))
    crystals, _ = clean(load_labelled())
    parts = split([crystal.id for crystal in crystals], record["settings"]["seed"])
    validation = [crystals[i] for i in parts.validation]
    model = DTNN.from_pretrained("dielectric")
    screened, _ = screen_crystals(model, validation)
    num_covered = int(np.ceil(0.9 * (len(validation) + 1)))
    with model.evaluating():
        members = [model.predict_members(validation[start : start + 20]) for start in range(0, len(validation), 20)]
    for index, target in enumerate(screened.targets):
        errors = crystal_errors(screened.tensors[target], screened.known[target])
        for quantity, metric, bars, calibrations in (
            (Quantity.tensor, "mae_ten", screened.errors, model.tensor_calibrations),
            (Quantity.mean, "mae_mean_diag", screened.mean_errors, model.mean_calibrations),
        ):
            if len(calibrations[index].factors) == 1:
                ratios = np.sort(errors[metric] / bars[target])
                # The factor is the smallest that covers this number of crystals.
                assert ratios[num_covered - 1] == pytest.approx(1.0, rel=1e-3)
                continue
            tensors = np.concatenate([part[target] for part in members], 1)
            made = calibrate(tensors, screened.known[target], quantity=quantity, vacuum=BOUNDS[target])
            assert calibrations[index].factors == pytest.approx(made.factors, rel=1e-3)
            assert calibrations[index].sizes == pytest.approx(made.sizes, rel=1e-3)

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
from dtnn_fast.training.metrics import METRICS, summarise


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

# SPDX-License-Identifier: MIT
"""Where no optical phonon is infrared-active, the ionic part is exactly zero, with its error bars; not elsewhere."""

from dataclasses import replace

import numpy as np
import pytest
from model_cases import config, randomised

from dtnn_fast.crystals.crystal import Crystal

FCC = 0.5 * (1 - np.eye(3))
TARGETS = ("electronic", "ionic", "total")


def two_atoms(name, numbers, shift, a):
    return Crystal.from_fractional(name, numbers, [[0, 0, 0], [shift] * 3], a * FCC)


SILICON = two_atoms("Si", [14, 14], 0.25, 5.43)
DIAMOND = two_atoms("diamond", [6, 6], 0.25, 3.57)
ROCK_SALT = two_atoms("MgO", [12, 8], 0.5, 4.21)
ZINCBLENDE = two_atoms("SiC", [14, 6], 0.25, 4.36)
DISTORTED = Crystal.from_fractional(
    "distorted", [14, 14, 14], [[0, 0, 0], [0.3, 0.2, 0.1], [0.6, 0.5, 0.8]], 5 * np.eye(3)
)
CRYSTALS = [SILICON, ROCK_SALT, DIAMOND, ZINCBLENDE, DISTORTED]
FORBIDDEN = np.array([True, False, True, False, False])


def ensemble(*targets):
    scales = (2.0,) * len(targets)
    settings = replace(config(targets=targets), members=2, error_scales=scales, mean_error_scales=scales)
    return randomised(settings)


def test_forbidden_ionic_parts_are_zero_and_the_total_is_the_electronic_part():
    model = ensemble(*TARGETS).eval()
    prediction = model.predict_batch_with_errors(CRYSTALS)
    ionic = np.abs(prediction.tensors["ionic"]).max(axis=(1, 2))
    np.testing.assert_array_equal(ionic == 0, FORBIDDEN)
    for errors in (prediction.tensor_errors, prediction.mean_errors):
        np.testing.assert_array_equal(errors["ionic"] == 0, FORBIDDEN)
        assert (errors["electronic"] > 0).all()
    difference = prediction.tensors["total"] - prediction.tensors["electronic"]
    np.testing.assert_array_equal((difference == 0).all(axis=(1, 2)), FORBIDDEN)
    np.testing.assert_array_equal(
        prediction.tensor_errors["total"][FORBIDDEN], prediction.tensor_errors["electronic"][FORBIDDEN]
    )


def test_members_are_as_the_decoders_made_them():
    model = ensemble(*TARGETS).eval()
    before = model.predict_members(CRYSTALS)
    model.predict_batch_with_errors(CRYSTALS)
    after = model.predict_members(CRYSTALS)
    for target in TARGETS:
        np.testing.assert_array_equal(before[target], after[target])
        assert np.abs(before[target]).max(axis=(0, 2, 3)).min() > 0


@pytest.mark.parametrize("targets", [("electronic",), ("total",)])
def test_models_without_the_parts_are_left_alone(targets):
    model = ensemble(*targets).eval()
    expected = model.predict_members(CRYSTALS)[targets[0]].mean(0)
    np.testing.assert_array_equal(model.predict(CRYSTALS), expected)


def test_predict_gives_zero_for_one_target():
    tensors = ensemble("ionic").predict(CRYSTALS)
    np.testing.assert_array_equal((tensors == 0).all(axis=(1, 2)), FORBIDDEN)


def test_unknown_symmetry_keeps_the_prediction(monkeypatch):
    monkeypatch.setattr("dtnn_fast.symmetry.bounded_search.MAX_ATOMS", 1)
    assert np.abs(ensemble("ionic").predict(SILICON)).max() > 0

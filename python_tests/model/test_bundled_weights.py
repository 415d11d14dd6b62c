# SPDX-License-Identifier: MIT
"""The bundled weights give, with the code as it is, the errors that were recorded when they were bundled."""

from __future__ import annotations

import json
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch

from dtnn_fast import DTNN
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.datasets.textbook_crystals import load_textbook
from dtnn_fast.encoders.latent_cache import encoder_digest
from dtnn_fast.model.bundled_model import bundled_folder, bundled_lattice_folder
from dtnn_fast.model.dtnn import bundled_encoder
from dtnn_fast.model.error_calibration import ErrorCalibration
from dtnn_fast.model.lattice_model import LatticeModel
from dtnn_fast.nn.saved_folder import load_weights
from dtnn_fast.screening.engine import screen_crystals
from dtnn_fast.symmetry import with_operations
from dtnn_fast.training.metrics import METRICS, crystal_errors, summarise
from dtnn_fast.typed_settings import from_plain

PARTS = ("test", "validation")


@cache
def record():
    return json.loads((bundled_folder() / "training.json").read_text(encoding="utf-8"))


@cache
def screened(part):
    """The bundled labelled crystals that the training held out, predicted."""
    ids = record()["held_out_bundled"][part]["ids"]
    known = {crystal.id: crystal for crystal in load_labelled()}
    crystals = [known[id] for id in ids]
    return crystals, screen_crystals(DTNN.from_pretrained("dielectric"), crystals)[0]


@pytest.mark.parametrize("part", PARTS)
def test_recorded_errors_on_crystals_that_were_held_out(part):
    crystals, table = screened(part)
    assert len(crystals) > 50
    for target, tensors in table.tensors.items():
        errors = summarise(tensors, table.known[target], [crystal.info["crystal_system"] for crystal in crystals])
        recorded = record()["held_out_bundled"][part][target]
        for metric in METRICS:
            assert errors["all"][metric] == pytest.approx(recorded[metric], rel=1e-4)
        assert errors["all"]["mae_ten"] < 0.7 * recorded["median_model"]


@pytest.mark.parametrize("part", PARTS)
def test_error_bars_hold_on_crystals_that_were_held_out(part):
    """The bar of a number is one of that number: 78 to 99 % of the errors are within it, as many as recorded."""
    _, table = screened(part)
    for target in table.tensors:
        errors = crystal_errors(table.tensors[target], table.known[target])
        recorded = record()["held_out_bundled"][part][target]
        for metric, bars, name in (
            ("mae_ten", table.errors, "within_tensor_error"),
            ("mae_mean_diag", table.mean_errors, "within_mean_error"),
        ):
            share = (errors[metric] <= bars[target]).mean()
            assert share == pytest.approx(recorded[name], abs=1.5 / len(bars[target]))
            assert 0.78 <= share <= 0.99


def test_the_calibrations_are_those_of_the_training():
    model = DTNN.from_pretrained("dielectric")
    for index, target in enumerate(model.targets):
        bars = record()["error_bars"][target]
        assert model.tensor_calibrations[index] == from_plain(ErrorCalibration, bars["calibration"])
        assert model.mean_calibrations[index] == from_plain(ErrorCalibration, bars["mean_calibration"])
        for prefix in ("", "mean_"):
            assert 0.87 <= bars[f"{prefix}test_coverage"] <= 0.96


def test_silicon_is_within_15_percent_of_perturbation_theory():
    (silicon,) = [one for one in load_textbook() if one.crystal.id == "Si"]
    mean = np.trace(DTNN.from_pretrained("dielectric-electronic").predict(silicon.crystal)[0]) / 3.0
    assert mean == pytest.approx(silicon.theory_mean("electronic"), rel=0.15)


def test_the_lattice_model_knows_rocksalt():
    """Charges and stiffness of MgO: DFT gives 1.98 e, and an optical stiffness of about 10 eV/Angstrom^2."""
    (magnesia,) = [one.crystal for one in load_textbook() if one.crystal.id == "MgO"]
    (known,) = with_operations([magnesia])
    (response,) = LatticeModel.from_pretrained("lattice").predict(known)
    charges = np.trace(response.born_charges, axis1=1, axis2=2) / 3.0
    expected = np.where(known.atomic_numbers == 12, 1.98, -1.98)
    np.testing.assert_allclose(charges, expected, rtol=0.05)
    assert (bundled_lattice_folder() / "join.json").is_file()


def test_the_distilled_encoder_is_not_the_one_that_learned_labels():
    """Whoever trains with --encoder distilled measures honest errors on the bundled crystals."""
    distilled = bundled_encoder().state_dict()
    for folder in (bundled_folder(), bundled_lattice_folder()):
        learned = load_weights(folder)
        assert not torch.equal(distilled["embedding.weight"], learned["encoder.embedding.weight"])
    record = json.loads((bundled_lattice_folder() / "training.json").read_text(encoding="utf-8"))
    runs = [*record["earlier_runs"], record]
    assert encoder_digest(bundled_encoder()) == runs[0]["settings"]["start"]
    # Each of the later ones went on from the one before.
    for before, after in pairwise(runs):
        assert f"--start runs/{before['run']}/model " in after["command"]

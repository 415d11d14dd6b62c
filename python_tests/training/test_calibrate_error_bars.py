# SPDX-License-Identifier: MIT
"""`tools/calibrate_error_bars.py` gives a model the bars that hold for crystals that its sister never saw."""

import importlib
import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from model_cases import config, labelled

from dtnn_fast import DTNN
from dtnn_fast.formats import write_packed
from dtnn_fast.model.error_calibration import ErrorCalibration
from dtnn_fast.training.error_bars import Quantity, calibrate
from dtnn_fast.training.run_folder import RunPredictions, save_predictions
from dtnn_fast.typed_settings import from_plain

TARGETS = ("electronic", "ionic")


def random_model(seed):
    torch.manual_seed(seed)
    settings = replace(config(2, targets=TARGETS, joint=True), functionals=("PBE", "PBEsol"), members=2)
    model = DTNN(settings).eval()
    for part in model.decoders.parameters():
        torch.nn.init.normal_(part, std=0.3)
    return model


@pytest.fixture(scope="module")
def tool():
    return importlib.import_module("calibrate_error_bars")


@pytest.fixture(scope="module")
def crystals():
    """Forty labelled crystals; the first has a label that no training takes, the second none of the ionic tensor."""
    first, second, *others = labelled()[:40]
    second = replace(second, targets={"electronic": second.targets["electronic"]})
    return [replace(first, targets={name: 50.0 * tensor for name, tensor in first.targets.items()}), second, *others]


@pytest.fixture(scope="module")
def made(crystals, tmp_path_factory):
    """A run of two members with predictions, the sister, and the held-out crystals."""
    folder = tmp_path_factory.mktemp("made")
    run = folder / "run"
    model = random_model(1)
    model.save(run / "model")
    random_model(2).save(folder / "sister")
    tested = crystals[20:]
    members = model.predict_members(tested)
    expected = {target: np.array([crystal.targets[target] for crystal in tested]) for target in TARGETS}
    for member in range(2):
        place = run / "members" / str(member)
        place.mkdir(parents=True)
        tensors = {target: members[target][member] for target in TARGETS}
        ids = [crystal.id for crystal in tested]
        save_predictions(place / "predictions.npz", RunPredictions(ids, ["test"] * len(ids), tensors, expected))
    (run / "results.json").write_text(json.dumps({"epochs": 3, "error_bars": {}}), encoding="utf-8")
    write_packed(folder / "held.npz", crystals, {})
    return folder


def run_tool(tool, monkeypatch, folder, run):
    arguments = [str(run), str(folder / "held.npz"), "--sister", str(folder / "sister")]
    monkeypatch.setattr(sys, "argv", ["calibrate_error_bars.py", *arguments])
    tool.main()


def test_bars_are_those_of_the_sisters_errors(tool, made, crystals, monkeypatch, tmp_path, capsys):
    run = shutil.copytree(made / "run", tmp_path / "run")
    run_tool(tool, monkeypatch, made, run)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 4
    assert printed[0].startswith("electronic, mean: ")
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    assert results["epochs"] == 3
    model, sister = DTNN.from_pretrained(run / "model"), DTNN.from_pretrained(made / "sister")
    for index, target in enumerate(TARGETS):
        bars = results["error_bars"][target]
        usable = [one for one in crystals if target in one.targets and one.targets[target].max() <= 100]
        assert crystals[0].id not in {one.id for one in usable}
        assert bars["calibrated_on"] == len(usable) > 30
        members = sister.predict_members(usable)[target]
        expected = np.array([one.targets[target] for one in usable])
        vacuum = {"electronic": 1.0, "ionic": 0.0}[target]
        for quantity, name, own in (
            (Quantity.tensor, "calibration", model.tensor_calibrations[index]),
            (Quantity.mean, "mean_calibration", model.mean_calibrations[index]),
        ):
            right = calibrate(members, expected, quantity=quantity, vacuum=vacuum)
            assert own == from_plain(ErrorCalibration, bars[name])
            assert own.sizes == pytest.approx(right.sizes, rel=1e-5)
            assert own.factors == pytest.approx(right.factors, rel=1e-4)
        for prefix in ("", "mean_"):
            assert 0.6 <= bars[f"{prefix}held_out_coverage"] <= 1.0
            assert len(bars[f"{prefix}held_out_coverage_by_third"]) == 3
            assert 0.0 <= bars[f"{prefix}test_coverage"] <= 1.0


def test_folds_keep_chemical_systems_together(tool, crystals):
    folds = tool.folds_by_system([*crystals, *crystals[::-1]])
    np.testing.assert_array_equal(folds[: len(crystals)], folds[len(crystals) :][::-1])
    assert set(folds.tolist()) == set(range(5))


def test_a_sister_of_other_targets_is_refused(tool, made, monkeypatch, tmp_path):
    run = shutil.copytree(made / "run", tmp_path / "run")
    path = run / "model" / "config.json"
    changed = {**json.loads(path.read_text(encoding="utf-8")), "targets": ["total"]}
    path.write_text(json.dumps(changed), encoding="utf-8")
    before = (run / "results.json").read_bytes()
    with pytest.raises(SystemExit, match=r"expected a model of \['electronic', 'ionic'\].*got \['total'\]"):
        run_tool(tool, monkeypatch, made, run)
    assert (run / "results.json").read_bytes() == before

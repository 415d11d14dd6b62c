# SPDX-License-Identifier: MIT
"""Run folders: found at any depth, named, and refused with the file and the reason when something is wrong."""

import json

import numpy as np
import pytest
from run_cases import CRYSTALS, DATA, made_up_crystals, off_by, write_model, write_run

from dtnn_fast.datasets.splits import split
from dtnn_fast.errors import BadFileError
from dtnn_fast.evaluation.comparison import group_runs, missing_splits
from dtnn_fast.evaluation.runs import DataSet, check_run, find_runs, read_run, read_runs
from dtnn_fast.training.run_folder import RunPredictions, load_predictions, save_predictions


def change_settings(folder, **changes):
    path = folder / "settings.json"
    record = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in record.items() if value is not None}))


def test_runs_are_found_at_any_depth_and_once(tmp_path):
    write_model(tmp_path / "a" / "total", {0: 1.0, 1: 1.0})
    write_run(tmp_path / "b", 0, off_by(1.0))
    folders, rejected = find_runs([tmp_path / "b", tmp_path, tmp_path / "a", tmp_path / "absent"])
    assert [str(folder.relative_to(tmp_path)) for folder in folders] == ["b", "a/total/split-0", "a/total/split-1"]
    assert [(left.source, left.reason) for left in rejected] == [(str(tmp_path / "absent"), "no such folder")]
    (tmp_path / "empty").mkdir()
    assert "found no runs" in find_runs([tmp_path / "empty"])[1][0].reason


def test_members_belong_to_their_ensemble(tmp_path):
    for name in ("done/split-0", "open/split-0"):
        for member in ("0", "1"):
            write_run(tmp_path / name / "members" / member, 0, off_by(1.0))
    write_run(tmp_path / "done" / "split-0", 0, off_by(1.0))
    folders, rejected = find_runs([tmp_path])
    assert folders == [tmp_path / "done" / "split-0"]
    assert [left.source for left in rejected] == [str(tmp_path / "open" / "split-0")]
    assert "ensemble that is not finished" in rejected[0].reason
    # A member that is asked for is a run like any other.
    alone = tmp_path / "done" / "split-0" / "members" / "1"
    assert find_runs([alone]) == ([alone], [])


@pytest.mark.parametrize(
    ("place", "label", "name"),
    [
        ("runs/painn/total/split-0", "", "painn"),
        ("runs/DTNN/layer-3/split-0", "", "DTNN"),
        ("mine", "", "mine"),
        ("runs/painn/total/split-0", "Pai\nNN ", "Pai NN"),
    ],
)
def test_a_run_has_the_name_of_its_label_or_of_its_path(tmp_path, place, label, name):
    assert read_run(write_run(tmp_path / place, 0, off_by(1.0), label=label)).model == name


def test_what_a_run_says(tmp_path):
    run = read_run(write_run(tmp_path / "x", 3, off_by(1.0), layer=2, targets=("ionic", "total")))
    assert (run.seed, run.layer, run.is_baseline, run.digest) == (3, 2, False, DATA.digest)
    assert "seed" not in run.model_settings
    assert "layer" not in run.model_settings
    assert list(run.predictions.expected) == ["ionic", "total"]
    assert read_run(write_run(tmp_path / "y", 3, off_by(1.0), layer=None)).is_baseline
    model = {"decoder": {"layer": 4, "more_layers": [3]}}
    several = read_run(write_run(tmp_path / "z", 3, off_by(1.0), settings={"seed": 3, "model": model}))
    assert (several.layer, several.is_baseline) == (None, False)
    assert json.loads(several.model_settings)["model"] == model


def test_the_seed_may_stand_in_the_name_of_the_folder_only(tmp_path):
    folder = write_run(tmp_path / "split-2", 2, off_by(1.0))
    change_settings(folder, settings={"lr": 1})
    assert read_run(folder).seed == 2
    other = write_run(tmp_path / "other", 2, off_by(1.0))
    change_settings(other, settings={"lr": 1})
    with pytest.raises(BadFileError, match=r"settings\.json: expected the `seed`"):
        read_run(other)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "settings.json").unlink(), "settings.json: missing"),
        (lambda f: (f / "settings.json").write_text("{"), "settings.json: cannot be read"),
        (lambda f: (f / "settings.json").write_bytes(b"\xff\xfe"), "settings.json: cannot be read"),
        (lambda f: (f / "settings.json").write_text("[" * 100_000), "settings.json: cannot be read"),
        (lambda f: (f / "settings.json").write_text("[]"), "settings.json: expected a JSON object, got list"),
        (lambda f: change_settings(f, settings=3), "settings.json: expected the objects"),
        (lambda f: change_settings(f, data={"digest": 5}), "settings.json: expected the objects"),
        (lambda f: change_settings(f, data=None), "settings.json: expected the objects"),
        (lambda f: (f / "results.json").unlink(), "results.json is missing: the run is not finished"),
        (lambda f: (f / "results.json").write_text("null"), "results.json: expected a JSON object"),
        (lambda f: (f / "predictions.npz").unlink(), "predictions.npz is missing: the run is not finished"),
        (lambda f: (f / "predictions.npz").write_bytes(b"PK"), "predictions.npz: not the predictions"),
        (
            lambda f: (f / "predictions.npz").write_bytes((f / "predictions.npz").read_bytes()[:-40]),
            "predictions.npz: not the predictions",
        ),
    ],
)
def test_a_damaged_run_is_named_and_the_others_stay(tmp_path, damage, message):
    write_model(tmp_path, {0: 1.0, 1: 1.0})
    damage(tmp_path / "split-0")
    runs, rejected = read_runs(find_runs([tmp_path])[0])
    assert [run.seed for run in runs] == [1]
    assert [left.source for left in rejected] == [str(tmp_path / "split-0")]
    assert message in rejected[0].reason


def spoil(folder, change):
    predictions = load_predictions(folder / "predictions.npz")
    save_predictions(folder / "predictions.npz", change(predictions))


def without_first(p):
    cut = {target: tensors[1:] for target, tensors in p.predicted.items()}
    return RunPredictions(p.ids[1:], p.parts[1:], cut, {target: tensors[1:] for target, tensors in p.expected.items()})


def other_tensor(p):
    tensors = p.expected["total"].copy()
    tensors[4, 0, 1] += 0.01
    return RunPredictions(p.ids, p.parts, p.predicted, {"total": tensors})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            without_first,
            "its test crystals are not those of the split of seed 0: 1 are missing, 0 are unexpected, of 2",
        ),
        (
            lambda p: RunPredictions([*p.ids[:-1], "zz"], p.parts, p.predicted, p.expected),
            "its train crystals are not those of the split of seed 0: 1 are missing, 1 are unexpected, of 16",
        ),
        (
            lambda p: RunPredictions([p.ids[1], *p.ids[1:]], p.parts, p.predicted, p.expected),
            "its test crystals are not those",
        ),
        (other_tensor, "its expected total tensor of .* is not that of the data set"),
    ],
    ids=["missing", "unknown", "twice", "other tensor"],
)
def test_other_crystals_or_tensors_are_refused(tmp_path, change, message):
    folder = write_run(tmp_path, 0, off_by(1.0))
    check_run(read_run(folder), DATA)
    spoil(folder, change)
    with pytest.raises(BadFileError, match=message):
        check_run(read_run(folder), DATA)


def test_single_precision_is_no_other_tensor(tmp_path):
    folder = write_run(tmp_path, 0, off_by(1.0))
    spoil(
        folder, lambda p: RunPredictions(p.ids, p.parts, p.predicted, {"total": p.expected["total"].astype(np.float32)})
    )
    check_run(read_run(folder), DATA)


def test_another_data_set_is_refused_by_its_digest(tmp_path):
    run = read_run(write_run(tmp_path, 0, off_by(1.0), data=DataSet(made_up_crystals(21))))
    with pytest.raises(BadFileError, match=r"of another data set: its digest is .* that of the 20 crystals"):
        check_run(run, DATA)


def test_the_data_set_has_the_parts_of_the_split():
    indices = split([crystal.id for crystal in CRYSTALS], 3)
    assert DATA.part_ids(3, "test") == [CRYSTALS[index].id for index in indices.test]
    assert DATA.systems(["c00", "c01"]) == ["cubic", "hexagonal"]
    assert DATA.element_counts() == {11: 10, 17: 10, 12: 10, 8: 10}


def test_runs_of_a_model_differ_in_seed_and_layer_only(tmp_path):
    write_model(tmp_path / "m", {0: 1.0, 1: 1.0})
    write_run(tmp_path / "m" / "again", 1, off_by(1.0), label="m")
    other = {"model": {"decoder": {"layer": 4, "latent": 8}}, "seed": 2, "learning_rate": 5.0}
    write_run(tmp_path / "m" / "split-2", 2, off_by(1.0), settings=other)
    write_run(tmp_path / "b" / "split-2", 2, off_by(1.0), layer=None)
    write_run(tmp_path / "m" / "layer-2" / "split-0", 0, off_by(1.0), layer=2)
    runs, _ = read_runs(find_runs([tmp_path / "b", tmp_path / "m"])[0])
    models, rejected = group_runs(runs)
    assert [(model.name, model.layer, list(model.runs)) for model in models] == [
        ("m", 4, [0, 1]),
        ("m", 2, [0]),
        ("b", None, [2]),
    ]
    reasons = {left.id: left.reason for left in rejected}
    assert reasons.keys() == {"split-1", "split-2"}
    assert "total: 'm' already has a run of the split of seed 1" in reasons["split-1"]
    assert "total: has other settings than most runs of 'm'" in reasons["split-2"]
    listed = {left.source: left.reason for left in missing_splits(models)}
    assert listed.keys() == {"m (total, layer 4)", "m (total, layer 2)", "b (total)"}
    assert "no run of the splits of seed 0, 1" in listed["b (total)"]

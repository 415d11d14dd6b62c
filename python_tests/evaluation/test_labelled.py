# SPDX-License-Identifier: MIT
"""Errors on labelled crystals, worked out by hand, and what is left out of them."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch

from dtnn_fast.crystals.crystal import Crystal, Rejected
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.evaluation.labelled import (
    LabelledEvaluation,
    evaluate_labelled,
    labelled_tables,
    refined_evaluation,
    write_labelled,
)
from dtnn_fast.model.dtnn import DTNN
from dtnn_fast.model.training_set import TrainingSet, mean_scalars
from dtnn_fast.screening.store import ScreenedCrystals

SMALL = [crystal for crystal in load_labelled() if crystal.num_atoms < 4 and crystal.targets["total"].max() < 60][:20]


@pytest.fixture(scope="module")
def model():
    return DTNN.from_pretrained("dielectric")


def by_hand(labels, tensors, errors=None, known=None):
    """An evaluation of given labels (fields of `Crystal`) and total tensors."""
    cell = 4.2 * 0.5 * (1 - np.eye(3))
    crystals = [
        Crystal.from_fractional(f"c{n}", [12, 8], [[0, 0, 0], [0.5] * 3], cell, **fields)
        for n, fields in enumerate(labels)
    ]
    bars = {} if errors is None else {"total": np.array(errors)}
    screened = ScreenedCrystals.of(crystals, {"total": np.array(tensors)}, mean_errors=bars)
    return LabelledEvaluation("m", crystals, screened, None if known is None else np.array(known), [])


def test_errors_of_tensors_diagonals_and_means_are_those_worked_out_by_hand():
    labels = [
        {"targets": {"total": np.diag([2.0, 4.0, 6.0])}},
        {"diagonals": {"total": np.array([30.0, 40.0, 50.0])}},
        {"means": {"total": 10.0}},
        {},
    ]
    # The first has its axes exchanged: the frame does not matter to principal values.
    tensors = [np.diag([6.0, 4.0, 3.0]), 37.0 * np.eye(3), 35.0 * np.eye(3), np.eye(3)]
    evaluation = by_hand(labels, tensors, errors=[0.5, 2.0, 30.0, 1.0])
    errors = evaluation.errors("total", np.arange(4))
    assert (errors.labels, errors.tensors, errors.high) == (3, 1, 1)
    expected = {
        "mae_ten": (4 + 0 + 3) / 6,
        "median_ten": (4 + 0 + 3) / 6,
        "principal": (1 + 0 + 0) / 3,
        "mae_mean": (1 / 3 + 3 + 25) / 3,
        "median_mean": 3.0,
        "log_error": (np.log((13 / 3) / 4) + np.log(40 / 37) + np.log(3.5)) / 3,
        "spearman": 1.0,
        "recall_top_tenth": 1.0,
        "recall_high": 1.0,
        "precision_high": 0.5,
        "covered": 2 / 3,
    }
    assert errors.values == pytest.approx(expected)
    assert evaluation.errors("total", np.array([3])) is None
    single = evaluation.errors("total", np.array([2]))
    assert single.values.keys() == {"mae_mean", "median_mean", "covered"}


def test_refined_tensors_take_the_place_of_those_that_have_them(tmp_path):
    labels = [{"targets": {"total": n * np.eye(3)}} for n in (2.0, 4.0, 6.0)]
    direct = by_hand(labels, [9.0 * np.eye(3)] * 3, [1.0] * 3, [True, False, True])
    refined = refined_evaluation(
        direct,
        "refined",
        {"total": {"c2": 6.5 * np.eye(3), "c1": 4.1 * np.eye(3)}},
        {"total": {"c2": 0.1, "c1": 0.2}},
    )
    assert [crystal.id for crystal in refined.crystals] == ["c1", "c2"]
    assert {name: rows.tolist() for name, rows in refined.groups().items()} == {
        "all": [0, 1],
        "trained on": [1],
        "not trained on": [0],
    }
    errors = refined.errors("total", np.arange(2))
    assert errors.values["mae_mean"] == pytest.approx(0.3)
    assert errors.values["covered"] == 0.5
    for nothing in ({}, {"total": {}}):
        empty = refined_evaluation(direct, "refined", nothing, {})
        assert empty.crystals == []
        labelled_tables(empty)
        write_labelled(tmp_path / "empty.csv", empty)


def test_groups_by_training_and_functional():
    labels = [{"means": {"total": 5.0}, "info": {"functional": name}} for name in ("PBE", "PBE", "PBEsol")]
    evaluation = by_hand([*labels, {"means": {"total": 5.0}}], [5.0 * np.eye(3)] * 4, known=[True, False, False, True])
    groups = {name: rows.tolist() for name, rows in evaluation.groups().items()}
    assert groups == {
        "all": [0, 1, 2, 3],
        "trained on": [0, 3],
        "not trained on": [1, 2],
        "PBE": [0, 1],
        "PBE, not trained on": [1],
        "PBEsol": [2],  # and none with the same crystals
        "not stated": [3],
    }
    assert list(by_hand(labels[:2], [np.eye(3)] * 2).groups()) == ["all"]
    assert list(by_hand(labels[:2], [np.eye(3)] * 2, known=[False, False]).groups()) == ["all"]


def test_thirds_within_the_error_bar_are_by_predicted_mean():
    """29 of 30 means of the lowest third hold, half of the middle one, none of the highest."""
    means = np.arange(1.0, 91.0)
    off = np.where(means <= 30, 0.5, np.where(means % 2 == 0, 0.5, 2.0))
    off[0], off[60:] = 2.0, 2.0
    order = np.random.RandomState(0).permutation(90)
    labels = [{"means": {"total": mean + error}} for mean, error in zip(means[order], off[order], strict=True)]
    tensors = [mean * np.eye(3) for mean in means[order]]
    evaluation = by_hand(labels, tensors, errors=[1.0] * 90, known=[False] * 90)
    assert evaluation.covered_thirds("total") == pytest.approx((29 / 30, 0.5, 0.0))
    (table,) = labelled_tables(evaluation)
    assert "within its bar, thirds by predicted mean: 0.97, 0.50, 0.00" in table.notes
    assert "the model was trained on none of these crystals" in table.notes
    # An exact zero has no bar, and no part in this.
    zeros = by_hand([*labels, {"means": {"total": 0.0}}], [*tensors, np.zeros((3, 3))], errors=[1.0] * 90 + [0.0])
    assert zeros.covered_thirds("total") == pytest.approx((29 / 30, 0.5, 0.0))
    assert by_hand(labels[:29], tensors[:29], errors=[1.0] * 29).covered_thirds("total") is None
    assert by_hand(labels, tensors).covered_thirds("total") is None


def test_tables_have_the_columns_that_are_known(tmp_path):
    evaluation = by_hand([{"means": {"total": 5.0}}, {"means": {"total": 9.0}}], [4.0 * np.eye(3), 8.5 * np.eye(3)])
    (table,) = labelled_tables(evaluation)
    assert "MAE_ten" not in table.header
    assert "within its bar" not in table.header
    row = dict(zip(table.header, (cell.text for cell in table.rows[0]), strict=True))
    assert (row["crystals"], row["labels"], row["tensors"], row["mean"]) == ("all", "2", "0", "0.75")
    assert any("does not say" in note for note in table.notes)
    write_labelled(tmp_path / "a.csv", evaluation)
    with (tmp_path / "a.csv").open() as file:
        first, second = csv.DictReader(file)
    assert [first[name] for name in ("total_mean", "total_label", "total_mae_ten", "trained_on")] == ["4", "5", "", ""]
    assert second["total_label"] == "9"


def test_predictions_are_those_of_the_model_in_the_order_of_the_labels(model):
    evaluation = evaluate_labelled(model, SMALL[::-1])
    assert [crystal.id for crystal in evaluation.crystals] == [crystal.id for crystal in SMALL[::-1]]
    expected = model.predict(SMALL[::-1], "ionic")
    np.testing.assert_allclose(evaluation.screened.tensors["ionic"], expected, atol=1e-4)
    assert not evaluation.rejected


def test_known_crystals_are_told_apart(model):
    taught = model.with_targets(model.targets)
    with torch.no_grad():
        graph = model.graph(SMALL[:5])
        taught.training_set = TrainingSet.of(SMALL[:5], mean_scalars(model.encoder(graph), graph.ptr))
    evaluation = evaluate_labelled(taught, SMALL)
    assert evaluation.known.tolist() == [True] * 5 + [False] * 15


def test_what_cannot_be_used_is_rejected_with_the_reason(model):
    nothing = replace(SMALL[0], id="nothing", targets={})
    impossible = replace(SMALL[1], id="impossible", targets={"electronic": 0.5 * np.eye(3)})
    unstable = replace(SMALL[2], id="unstable", targets={"electronic": 3.0 * np.eye(3), "ionic": -5.0 * np.eye(3)})
    strange = replace(SMALL[3], id="strange", atomic_numbers=np.full(SMALL[3].num_atoms, 94))
    overlapping = replace(SMALL[4], id="overlapping", positions=np.zeros_like(SMALL[4].positions))
    unread = Rejected("gone", "file:1", "missing frac_coords")
    items = [unread, nothing, impossible, unstable, strange, overlapping, SMALL[5]]
    evaluation = evaluate_labelled(model, items)
    assert [crystal.id for crystal in evaluation.crystals] == ["unstable", SMALL[5].id]
    reasons = {}
    for reject in evaluation.rejected:
        reasons.setdefault(reject.id, []).append(reject.reason)
    assert reasons["gone"] == ["missing frac_coords"]
    assert reasons["nothing"] == ["no label: no electronic or ionic or total tensor, diagonal or mean is left"]
    assert reasons["impossible"][0].startswith("electronic label dropped: ")
    assert reasons["impossible"][1].startswith("no label")
    assert reasons["unstable"][0].startswith("ionic label dropped: ")
    assert "Pu" in reasons["strange"][0]
    assert reasons.keys() == {"gone", "nothing", "impossible", "unstable", "strange", "overlapping"}
    assert np.isnan(evaluation.known_means("ionic")[0])
    unclean = evaluate_labelled(model, [impossible, unstable], clean=False)
    assert len(unclean.crystals) == 2
    assert not unclean.rejected


def test_tensors_in_another_frame_are_kept(model):
    layered = next(c for c in load_labelled() if c.formula == "MoS2")
    turned = replace(layered, targets={name: np.roll(t, 1, (0, 1)) for name, t in layered.targets.items()})
    first, second = (evaluate_labelled(model, [crystal]) for crystal in (layered, turned))
    assert not second.rejected
    errors = [evaluation.errors("total", np.array([0])).values for evaluation in (first, second)]
    assert errors[0]["principal"] == pytest.approx(errors[1]["principal"])
    assert errors[0]["mae_ten"] != pytest.approx(errors[1]["mae_ten"], rel=0.05)

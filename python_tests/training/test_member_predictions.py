# SPDX-License-Identifier: MIT
"""Members with different validation crystals: each crystal is judged by those that were not trained on it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dtnn_fast.datasets.splits import FOLDS, split
from dtnn_fast.errors import DTNNError
from dtnn_fast.model.predictor import spread
from dtnn_fast.training.error_bars import calibrate, mean_and_spread
from dtnn_fast.training.member_predictions import MemberPredictions
from dtnn_fast.training.run_folder import RunPredictions

IDS = [f"crystal-{number:03}" for number in range(200)]
NUMBERS = np.random.default_rng(0)
EXPECTED = NUMBERS.normal(size=(len(IDS), 3, 3)) + NUMBERS.uniform(3, 30, size=(len(IDS), 1, 1)) * np.eye(3)
PARTS = ("test", "validation", "train")


def predictions(fold: int, seed: int = 0, ids=IDS) -> RunPredictions:
    parts = split(ids, 0, fold)
    order = np.concatenate([getattr(parts, part) for part in PARTS])
    names = [part for part in PARTS for _ in getattr(parts, part)]
    noise = np.random.default_rng((fold, seed)).normal(size=(len(ids), 3, 3))
    expected = EXPECTED[order]
    return RunPredictions([ids[place] for place in order], names, {"total": expected + noise}, {"total": expected})


def test_folds_are_the_tenths_that_are_not_tested():
    parts = [split(IDS, 3, fold) for fold in range(FOLDS)]
    plain = split(IDS, 3)
    assert all((one == other).all() for one, other in zip(parts[0], plain, strict=True))
    assert all((part.test == plain.test).all() for part in parts)
    validation = np.concatenate([part.validation for part in parts])
    assert sorted([*plain.test, *validation]) == list(range(len(IDS)))
    for part in parts:
        assert sorted(np.concatenate(part)) == list(range(len(IDS)))
    for fold in (-1, FOLDS):
        with pytest.raises(ValueError, match="`fold` from 0 to 8"):
            split(IDS, 0, fold)


def test_each_crystal_is_judged_by_members_that_have_not_seen_it():
    members = [predictions(fold) for fold in range(3)]
    together = MemberPredictions.stack(members)
    mean = together.mean()
    by_id = [dict(zip(member.ids, member.predicted["total"], strict=True)) for member in members]
    folds = [set(member.select_part("validation").ids) for member in members]
    for id, part, tensor in zip(mean.ids, mean.parts, mean.predicted["total"], strict=True):
        unseen = [member for member in range(3) if part == "test" or id in folds[member]] or [0, 1, 2]
        np.testing.assert_allclose(tensor, np.mean([by_id[member][id] for member in unseen], 0))
    assert mean.parts == members[0].parts
    assert together.error_bars() == {}


def test_error_bars_of_rotated_members_on_two_encoders():
    together = MemberPredictions.stack([predictions(fold, seed) for seed in range(2) for fold in range(4)])
    bars = together.error_bars()
    bar = together.judge(bars)["total"]
    chosen = (together.unseen.sum(0) == 2) & (np.asarray(together.parts) != "test")
    assert chosen.sum() == 4 * 20
    made = calibrate(
        together.tensors["total"][:, chosen],
        together.expected["total"][chosen],
        unseen=together.unseen[:, chosen],
        vacuum=1.0,
    )
    assert bars["total"].tensor == made
    assert len(made.factors) == 2
    mean, spreads = mean_and_spread(together.tensors["total"][:, chosen], together.unseen[:, chosen])
    means = np.trace(mean, axis1=1, axis2=2) / 3
    unique = (mean - together.expected["total"][chosen])[:, [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    size = np.maximum(means - 1, 0.1)
    ratios = np.abs(unique).mean(1) / np.hypot(spreads, made.size_weight * size)
    order = np.argsort(means)
    # 40 crystals in each bin, of which 37 must be covered.
    halves = np.array([np.sort(ratios[half])[36] for half in np.split(order, 2)])
    between = np.interp(np.log(size), np.log(made.sizes), halves)
    needed = np.array([np.sort((ratios / between)[half])[36] for half in np.split(order, 2)])
    np.testing.assert_allclose(made.factors, halves * needed)
    np.testing.assert_allclose(made.sizes, [np.median(size[half]) for half in np.split(order, 2)])
    assert bar["mean_test_coverage"] > 0.85
    # The errors of two members are larger than those of eight, which were told to be as large.
    assert bar["test_coverage"] > 0.9


def test_the_spread_of_some_members_stands_for_that_of_all():
    tensors = NUMBERS.normal(size=(6, 20_000, 3, 3))
    tensors = tensors + tensors.swapaxes(2, 3)
    everywhere = np.ones(tensors.shape[:2], dtype=bool)
    mean, spreads = mean_and_spread(tensors, everywhere)
    np.testing.assert_allclose(mean, tensors.mean(0), atol=1e-12)
    np.testing.assert_allclose(spreads, spread(tensors))
    some = everywhere.copy()
    some[2:] = False
    mean, fewer = mean_and_spread(tensors, some)
    np.testing.assert_allclose(mean, tensors[:2].mean(0), atol=1e-12)
    assert np.square(fewer).mean() == pytest.approx(np.square(spreads).mean(), rel=0.02)


def test_few_common_crystals_give_no_error_bars():
    for count, given in ((90, True), (80, False)):
        ids = IDS[:count]
        together = MemberPredictions.stack([predictions(0, seed, ids) for seed in range(3)])
        assert (np.asarray(together.parts) == "validation").sum() == count // 10
        assert bool(together.error_bars()) is given


def test_crystals_without_an_ionic_part_do_not_count():
    """Where symmetry forbids the ionic part, prediction and label are zero."""
    forbidden = np.arange(len(IDS)) % 4 == 1

    def ionic(seed: int, zeros: np.ndarray) -> RunPredictions:
        own = predictions(0, seed)
        is_zero = dict(zip(IDS, zeros.tolist(), strict=True))
        factor = np.array([0.0 if is_zero[id] else 1.0 for id in own.ids])[:, None, None]
        tensors = ({"ionic": factor * values["total"]} for values in (own.predicted, own.expected))
        return RunPredictions(own.ids, own.parts, *tensors)

    together = MemberPredictions.stack([ionic(seed, forbidden) for seed in range(4)])
    bars = together.error_bars()["ionic"]
    ordinary = [place for place, id in enumerate(together.ids) if not forbidden[IDS.index(id)]]
    some = MemberPredictions(
        [together.ids[place] for place in ordinary],
        [together.parts[place] for place in ordinary],
        {"ionic": together.tensors["ionic"][:, ordinary]},
        {"ionic": together.expected["ionic"][ordinary]},
        together.unseen[:, ordinary],
    )
    assert some.error_bars()["ionic"] == bars
    assert some.judge({"ionic": bars}) == together.judge({"ionic": bars})
    # Too few others, or none.
    for count in (150, 200):
        few = MemberPredictions.stack([ionic(seed, np.arange(len(IDS)) < count) for seed in range(4)])
        assert few.error_bars() == {}
        judged = few.judge({"ionic": bars})["ionic"]
        assert (judged["test_coverage"] is None) == (count == 200)
        assert json.loads(json.dumps(judged)) == judged


def test_members_that_are_equal_are_refused():
    with pytest.raises(DTNNError, match="ensemble: total: calibrate: expected members that differ"):
        MemberPredictions.stack([predictions(0), predictions(0)]).error_bars()


def test_a_member_keeps_its_parts():
    members = [predictions(fold) for fold in range(2)]
    second = MemberPredictions.stack(members).of_member(1)
    by_id = {
        id: (part, tensor) for id, part, tensor in zip(second.ids, second.parts, second.predicted["total"], strict=True)
    }
    for id, part, tensor in zip(members[1].ids, members[1].parts, members[1].predicted["total"], strict=True):
        assert by_id[id][0] == part
        np.testing.assert_array_equal(by_id[id][1], tensor)


def test_members_of_other_crystals_are_refused():
    with pytest.raises(DTNNError, match="same crystals"):
        MemberPredictions.stack([predictions(0), predictions(0, ids=IDS[:100])])
    other = predictions(0)
    parts = ["train" if part == "test" else part for part in other.parts]
    with pytest.raises(DTNNError, match="same test crystals"):
        MemberPredictions.stack([predictions(0), RunPredictions(other.ids, parts, other.predicted, other.expected)])
    ionic = RunPredictions(other.ids, other.parts, {"ionic": EXPECTED}, {"ionic": EXPECTED})
    with pytest.raises(DTNNError, match=r"same targets, got \['ionic'\]"):
        MemberPredictions.stack([predictions(0), ionic])

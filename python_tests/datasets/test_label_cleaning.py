# SPDX-License-Identifier: MIT
"""Each label is kept or dropped by itself, with the reason."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dtnn_fast.crystals.crystal import Crystal, dielectric_targets
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.datasets.label_cleaning import LabelFault, LabelRules, clean_labels


@pytest.fixture
def rutile_like():
    cell = np.diag([4.6, 4.6, 2.95])
    fractional = [[0, 0, 0], [0.5, 0.5, 0.5], [0.305, 0.305, 0], [0.695, 0.695, 0], [0.195, 0.805, 0.5]]
    fractional += [[0.805, 0.195, 0.5]]
    crystal = Crystal.from_fractional("rutile", [22, 22, 8, 8, 8, 8], fractional, cell)
    charges = np.array([np.diag([6.0, 6, 7])] * 2 + [np.diag([-3.0, -3, -3.5])] * 4)
    return replace(
        crystal, targets=dielectric_targets(np.diag([7.0, 7, 9]), np.diag([50.0, 50, 90])), born_charges=charges
    )


def labels_of(crystal):
    return {*crystal.targets, *crystal.diagonals, *crystal.means, *(() if crystal.born_charges is None else ("born",))}


def test_right_labels_stay_as_they_are(rutile_like):
    kept, dropped = clean_labels(rutile_like)
    assert dropped == []
    assert labels_of(kept) == {"electronic", "ionic", "total", "born"}
    np.testing.assert_array_equal(kept.born_charges, rutile_like.born_charges)


@pytest.mark.parametrize(
    ("electronic", "ionic", "fault", "left"),
    [
        (np.diag([0.9, 2, 2]), np.eye(3), LabelFault.BELOW_VACUUM, {"ionic", "born"}),
        (np.diag([7.0, 7, 61]), np.eye(3), LabelFault.TOO_LARGE, {"ionic", "born"}),
        (np.diag([7.0, 7, 9]), np.diag([4, 4, -0.6]), LabelFault.UNSTABLE, {"electronic", "born"}),
        (np.diag([7.0, 7, 9]), np.diag([4, 4, 301]), LabelFault.TOO_LARGE, {"electronic", "born"}),
        (np.diag([7.0, 9, 7]), np.eye(3), LabelFault.WRONG_SYMMETRY, {"ionic", "born"}),
        (np.diag([7.0, 7, 9]), np.diag([4.0, 7, 4]), LabelFault.WRONG_SYMMETRY, {"electronic", "born"}),
    ],
)
def test_a_wrong_tensor_costs_itself_and_the_total(rutile_like, electronic, ionic, fault, left):
    targets = dielectric_targets(electronic, electronic + ionic)
    kept, dropped = clean_labels(replace(rutile_like, targets=targets))
    assert [label.fault for label in dropped] == [fault]
    assert labels_of(kept) == left


def test_born_charges_lose_a_small_sum_and_a_large_one_costs_them(rutile_like):
    for shift, is_kept in ((0.04, True), (0.06, False)):
        charges = rutile_like.born_charges + shift * np.eye(3)
        kept, dropped = clean_labels(replace(rutile_like, born_charges=charges))
        assert (kept.born_charges is not None) == is_kept
        assert [label.fault for label in dropped] == ([] if is_kept else [LabelFault.SUM_RULE])
        if is_kept:
            np.testing.assert_allclose(kept.born_charges, rutile_like.born_charges, atol=1e-12)


def test_a_diagonal_in_another_frame_gives_its_mean(rutile_like):
    plain = replace(rutile_like, targets={}, born_charges=None)
    right = replace(plain, diagonals={"electronic": np.array([7.0, 7.0, 9.0])})
    assert labels_of(clean_labels(right)[0]) == {"electronic"}
    wrong, dropped = clean_labels(replace(plain, diagonals={"electronic": np.array([7.0, 9.0, 7.0])}))
    assert wrong.diagonals == {}
    assert wrong.means["electronic"] == pytest.approx(23 / 3)
    assert dropped[0].fault is LabelFault.WRONG_FRAME


@pytest.mark.parametrize(("value", "fault"), [(0.5, LabelFault.BELOW_VACUUM), (99.0, LabelFault.TOO_LARGE)])
def test_an_impossible_diagonal_is_dropped(rutile_like, value, fault):
    crystal = replace(rutile_like, targets={}, diagonals={"electronic": np.full(3, value)})
    kept, dropped = clean_labels(crystal)
    assert labels_of(kept) == {"born"}
    assert dropped[0].fault is fault


def test_rules_can_be_changed(rutile_like):
    rules = LabelRules(largest_electronic=8.0)
    assert clean_labels(rutile_like, rules)[1][0].fault is LabelFault.TOO_LARGE


def test_nearly_all_bundled_tensors_pass():
    dropped = [label for crystal in load_labelled() for label in clean_labels(crystal)[1]]
    assert len(dropped) < 20


@pytest.mark.parametrize(
    ("total", "fault"),
    [
        (np.diag([0.5, 2, 2]), LabelFault.BELOW_VACUUM),
        (np.diag([9.0, 9, 361]), LabelFault.TOO_LARGE),
        (np.diag([9.0, 19, 9]), LabelFault.WRONG_SYMMETRY),
        (np.diag([9.0, 9, 19]), None),
    ],
)
def test_a_total_tensor_alone_is_judged_too(rutile_like, total, fault):
    kept, dropped = clean_labels(replace(rutile_like, targets={"total": total}))
    assert [label.fault for label in dropped] == ([] if fault is None else [fault])
    assert ("total" in kept.targets) == (fault is None)

# SPDX-License-Identifier: MIT
"""The loss and the errors against values worked out by hand, and the trivial model's published-split figures."""

import numpy as np
import pytest
import torch
from model_cases import labelled

from dtnn_fast.datasets.cleaning import clean
from dtnn_fast.datasets.splits import split
from dtnn_fast.training.metrics import (
    METRICS,
    crystal_errors,
    isotropic_scale,
    mae_ten,
    median_tensor,
    ranking_quality,
    summarise,
    unique_elements,
)

#                      xx    yy    zz    yz    xz    xy
DIFFERENCES = np.array([[3.0, -1.0, 1.0, 0.5, -2.0, 1.5], [0.0, 0.0, -6.0, 0.0, 0.0, 0.6]])


def symmetric(elements):
    xx, yy, zz, yz, xz, xy = elements
    return [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]


EXPECTED = np.array([symmetric([4, 5, 6, 0.1, 0.2, 0.3]), symmetric([9, 8, 7, -0.3, 0.0, 0.5])])
PREDICTED = EXPECTED + np.array([symmetric(d) for d in DIFFERENCES])
BY_HAND = {
    "mae_ten": [(3 + 1 + 1 + 0.5 + 2 + 1.5) / 6, 6.6 / 6],
    "mae_mean_diag": [1.0, 2.0],
    "mae_diag": [5 / 3, 2.0],
    "mae_off_diag": [4 / 3, 0.2],
}


def test_errors_of_each_crystal_are_those_worked_out_by_hand():
    errors = crystal_errors(PREDICTED, EXPECTED)
    assert tuple(errors) == METRICS
    for metric, values in BY_HAND.items():
        np.testing.assert_allclose(errors[metric], values, rtol=1e-12, err_msg=metric)
        np.testing.assert_allclose(crystal_errors(EXPECTED, PREDICTED)[metric], values, rtol=1e-12)
    assert all((values == 0).all() for values in crystal_errors(EXPECTED, EXPECTED).values())


def test_the_loss_is_mae_ten_and_has_its_gradient():
    predicted = torch.from_numpy(PREDICTED).requires_grad_()
    loss = mae_ten(predicted, torch.from_numpy(EXPECTED))
    assert loss.item() == pytest.approx((1.5 + 1.1) / 2, rel=1e-12)
    loss.backward()
    np.testing.assert_allclose(predicted.grad[0].diagonal(), np.array([1, -1, 1]) / 12)
    assert unique_elements(torch.from_numpy(EXPECTED))[0].tolist() == [4, 5, 6, 0.1, 0.2, 0.3]


def test_summaries_are_made_for_all_crystals_and_for_each_system():
    predicted, expected = np.concatenate([PREDICTED, PREDICTED[:1]]), np.concatenate([EXPECTED, EXPECTED[:1]])
    summary = summarise(predicted, expected, ["cubic", "triclinic", "cubic"])
    assert list(summary) == ["all", "cubic", "triclinic"]
    assert [summary[group]["count"] for group in summary] == [3, 2, 1]
    assert summary["all"]["mae_ten"] == pytest.approx((1.5 + 1.1 + 1.5) / 3)
    assert summary["all"]["median_ten"] == pytest.approx(1.5)
    assert summary["cubic"]["mae_mean_diag"] == pytest.approx(1.0)
    assert summary["triclinic"]["mae_off_diag"] == pytest.approx(0.2)
    for group in summary.values():
        assert set(group) == {"count", "median_ten", *METRICS}


def test_the_scale_is_that_of_the_diagonals_means():
    means = torch.tensor([2.0, 3.0, 10.0])
    offset, scale = isotropic_scale(means[:, None, None] * torch.eye(3))
    assert (offset, scale) == (3.0, pytest.approx(8 / 3))
    assert isotropic_scale(torch.ones(4, 3, 3))[1] > 0


@pytest.mark.parametrize(("target", "expected"), [("electronic", 1.80), ("ionic", 2.10), ("total", 3.35)])
def test_the_median_of_the_training_set_has_the_known_error(target, expected):
    kept, rejected = clean(labelled())
    assert (len(kept), len(rejected)) == (940, 15)
    values = np.array([crystal.targets[target] for crystal in kept])
    errors = []
    for seed in range(5):
        parts = split([crystal.id for crystal in kept], seed)
        assert (len(parts.test), len(parts.validation), len(parts.train)) == (94, 94, 752)
        median = median_tensor(values[parts.train])
        trivial = np.broadcast_to(median, values[parts.test].shape)
        errors.append(crystal_errors(trivial, values[parts.test])["mae_ten"].mean())
    assert round(float(np.mean(errors)), 2) == expected


class TestRanking:
    """Quality of the order of means."""

    def tensors(self, means):
        return np.array([mean * np.eye(3) for mean in means])

    def test_the_right_order_is_perfect_whatever_the_values(self):
        expected = np.arange(1.0, 31.0)
        quality = ranking_quality(self.tensors(expected**2), self.tensors(expected))
        assert quality["spearman"] == pytest.approx(1.0)
        assert quality["recall_top_tenth"] == 1.0
        assert quality["log_error"] == pytest.approx(np.log(expected).mean())

    def test_hand_computed(self):
        quality = ranking_quality(self.tensors([1, 3, 2, 4]), self.tensors([1, 2, 3, 4]))
        assert quality["spearman"] == pytest.approx(0.8)
        assert quality["recall_top_tenth"] == 1.0
        assert quality["log_error"] == pytest.approx(2 * np.log(1.5) / 4)

    def test_recall_counts_the_top_tenth(self):
        expected = np.arange(20.0)
        predicted = expected.copy()
        predicted[[19, 3]] = predicted[[3, 19]]
        assert ranking_quality(self.tensors(predicted), self.tensors(expected))["recall_top_tenth"] == 0.5

    def test_zero_and_negative_means_have_finite_errors(self):
        assert ranking_quality(self.tensors([0.0, -3.0]), self.tensors([0.1, 1.0]))["log_error"] == pytest.approx(
            np.log(10.0) / 2
        )

    def test_equal_values_share_their_rank_and_constants_have_no_correlation(self):
        assert ranking_quality(self.tensors([1, 1, 2]), self.tensors([5, 5, 9]))["spearman"] == pytest.approx(1.0)
        assert np.isnan(ranking_quality(self.tensors([1, 1, 1]), self.tensors([1, 2, 3]))["spearman"])

    def test_high_permittivities_by_hand(self):
        expected, predicted = [10.0, 31.0, 40.0, 29.9], [35.0, 33.0, 20.0, 8.0]
        quality = ranking_quality(self.tensors(predicted), self.tensors(expected))
        assert (quality["recall_high"], quality["precision_high"], quality["high"]) == (0.5, 0.5, 2.0)
        low = ranking_quality(self.tensors([1.0, 2.0]), self.tensors([3.0, 4.0]))
        assert np.isnan(low["recall_high"])
        assert np.isnan(low["precision_high"])
        assert low["high"] == 0.0

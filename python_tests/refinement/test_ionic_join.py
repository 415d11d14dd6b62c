# SPDX-License-Identifier: MIT
"""The join of direct and physical ionic tensors: its fit, its error bars, its file."""

import json

import numpy as np
import pytest

from dtnn_fast.errors import BadFileError
from dtnn_fast.model.error_calibration import ErrorCalibration
from dtnn_fast.model.predictor import mean_permittivity
from dtnn_fast.refinement.ionic_join import JOIN_FILE, IonicEstimates, IonicJoin, fit_join


def crystals(count=400, seed=0):
    """Labels, and estimates whose errors are known: the direct one relative, the lattice's for soft modes only."""
    random = np.random.RandomState(seed)
    means = np.exp(random.uniform(np.log(1.0), np.log(40.0), count))
    labels = means[:, None, None] * np.eye(3)
    softest = np.exp(random.uniform(np.log(0.1), np.log(10.0), count))
    direct = labels * np.exp(random.normal(0, 0.3, count))[:, None, None]
    lattice = labels * np.exp(random.normal(0, 0.05 + 0.8 * (softest < 0.7), count))[:, None, None]
    return IonicEstimates(direct, lattice, softest), labels


def error(tensors, labels):
    return np.abs(np.log(mean_permittivity(tensors) / mean_permittivity(labels))).mean()


@pytest.fixture(scope="module")
def fitted():
    return fit_join(*crystals(900))


def test_the_join_trusts_the_lattice_where_it_is_stiff(fitted):
    join = fitted
    fresh, truth = crystals(seed=1)
    joined = join.join(fresh)
    assert error(joined, truth) < 0.9 * min(error(fresh.direct, truth), error(fresh.lattice, truth))
    stiff = fresh.softest > 3.0
    far = np.abs(mean_permittivity(joined - fresh.lattice)) < np.abs(mean_permittivity(joined - fresh.direct))
    assert far[stiff].mean() > 0.8


def test_error_bars_cover_nine_of_ten_fresh_crystals_in_each_third(fitted):
    join = fitted
    fresh, truth = crystals(900, seed=2)
    joined = join.join(fresh)
    _, bars = join.error_bars(fresh)
    covered = np.abs(mean_permittivity(joined - truth)) <= bars
    order = np.argsort(mean_permittivity(joined))
    for third in np.array_split(order, 3):
        assert 0.85 < covered[third].mean() < 0.95


def test_agreeing_estimates_are_kept_up_to_the_scale_and_zero_stays_zero():
    tensors = np.array([np.zeros((3, 3)), np.diag([2.0, 3.0, 4.0])])
    estimates = IonicEstimates(tensors, tensors, np.array([np.inf, 1.0]))
    join = IonicJoin((0.3, 0.2), 1.0, ErrorCalibration((1.0,), (2.0,), 0.1), ErrorCalibration((1.0,), (2.0,), 0.1))
    np.testing.assert_allclose(join.join(estimates), tensors, rtol=1e-15)
    for bars in join.error_bars(estimates):
        assert bars[0] == 0.0
        assert bars[1] == pytest.approx(0.6)
    assert IonicJoin().error_bars(estimates) is None


def test_files_come_back(tmp_path, fitted):
    assert IonicJoin.load(tmp_path) is None
    for join in (IonicJoin((0.1, -0.4), 1.05), fitted):
        join.save(tmp_path)
        assert IonicJoin.load(tmp_path) == join


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "dtnn_fast join 2"}, "format"),
        ({"weights": [0.0]}, "2 finite `weights`"),
        ({"scale": -1.0}, "scale"),
        ({"mean_calibration": {"sizes": [1.0], "factors": [-1.0], "size_weight": 0.0, "vacuum": 0.0}}, "factors"),
        ({"more": 1}, "more"),
    ],
)
def test_damaged_files_are_refused(tmp_path, change, message):
    IonicJoin().save(tmp_path)
    path = tmp_path / JOIN_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(BadFileError, match=message):
        IonicJoin.load(tmp_path)


def test_too_few_crystals_are_refused():
    estimates, labels = crystals(7)
    with pytest.raises(ValueError, match="at least 8 crystals, got 7"):
        fit_join(estimates, labels)

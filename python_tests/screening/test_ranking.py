# SPDX-License-Identifier: MIT
"""Crystals whose predictions mean nothing are ranked behind the others, unless they are asked for."""

import numpy as np

from dtnn_fast.screening.ranking import is_unreliable, rank

COLUMNS = {
    "total_mean": np.array([5.0, 90.0, 20.0, 40.0, 30.0]),
    "warning_codes": ["", "single_element metals_only", "few_training_crystals", "error_bar_exceeds_value", ""],
}


def test_unreliable_crystals_come_last():
    assert is_unreliable(COLUMNS).tolist() == [False, True, False, True, False]
    assert rank(COLUMNS, "total_mean", unreliable_last=True).tolist() == [4, 2, 0, 1, 3]
    assert rank(COLUMNS, "total_mean", lowest_first=True, unreliable_last=True).tolist() == [0, 2, 4, 3, 1]


def test_all_crystals_by_value():
    assert rank(COLUMNS, "total_mean").tolist() == [1, 3, 4, 2, 0]
    assert rank(COLUMNS, "total_mean", lowest_first=True).tolist() == [0, 2, 4, 3, 1]

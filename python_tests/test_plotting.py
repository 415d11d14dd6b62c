# SPDX-License-Identifier: MIT
"""Labels of points in figures."""

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.text import Text

from dtnn_fast.plotting import label_points

matplotlib.use("Agg")


@pytest.fixture
def axis():
    figure, axis = plt.subplots(figsize=(6, 4), dpi=100)
    axis.set(xlim=(0, 10), ylim=(0, 10))
    yield axis
    plt.close(figure)


def boxes(axis):
    axis.figure.draw_without_rendering()
    return [Text.get_window_extent(label).extents for label in axis.texts]  # without the lines to the points


def test_a_label_goes_where_it_hides_few_points(axis):
    cloud = np.random.default_rng(0).uniform([5.1, 0], [10, 10], size=(2000, 2))
    label_points(axis.figure, axis, [(5, 5, "BaTiO3")], others=cloud)
    ((left, bottom, right, top),) = boxes(axis)
    x, y = axis.transData.transform(cloud).T
    assert ((left < x) & (x < right) & (bottom < y) & (y < top)).sum() == 0
    # Near to its own point all the same.
    assert np.hypot(*(np.array([right, (bottom + top) / 2]) - axis.transData.transform((5, 5)))) < 40


def test_labels_do_not_overlap_and_stay_inside(axis):
    points = [(9.9, 5 + 0.1 * number, f"Crystal {number}") for number in range(8)]
    label_points(axis.figure, axis, points)
    found = boxes(axis)
    assert 4 < len(found) <= len(points)
    frame = axis.get_window_extent().extents
    for number, box in enumerate(found):
        assert (box[:2] >= frame[:2] - 1).all()
        assert (box[2:] <= frame[2:] + 1).all()
        for other in found[:number]:
            assert (box[:2] > other[2:]).any() or (other[:2] > box[2:]).any()

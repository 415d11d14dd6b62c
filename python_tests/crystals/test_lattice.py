# SPDX-License-Identifier: MIT
"""Reduced cells and closest pairs of atoms, against searches over all images."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtnn_fast.crystals.lattice import closest_pair_within, reduce_cell, shortest_lattice_vector


def heights(cell):
    """Distances between opposite faces of a cell; 0 for a cell without volume."""
    faces = np.cross(np.roll(cell, -1, axis=0), np.roll(cell, -2, axis=0))
    areas = np.linalg.norm(faces, axis=1)
    return abs(np.linalg.det(cell)) / np.where(areas > 0, areas, 1)


def closest_distance(positions, cell, max_distance):
    """The closest distance below max_distance, over all pairs and all images that can be so close, or None."""
    differences = (positions[None] - positions[:, None])[np.triu_indices(len(positions), 1)]
    longest = max_distance + np.linalg.norm(differences, axis=1).max()
    spans = np.ceil(longest * np.linalg.norm(np.linalg.inv(cell), axis=0)).astype(int).tolist()
    steps = np.array(list(itertools.product(*(range(-n, n + 1) for n in spans))))
    closest = np.linalg.norm(differences[:, None] + steps @ cell, axis=-1).min()
    return closest if closest < max_distance else None


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**9),
    count=st.integers(2, 6),
    max_distance=st.sampled_from([0.3, 1.0, 2.5]),
    shear=st.integers(0, 4),
)
def test_closest_pair_equals_a_search_over_all_images(seed, count, max_distance, shear):
    rng = np.random.default_rng(seed)
    compact = np.zeros((3, 3))
    # In a flatter cell, the search over all images needs too much memory.
    while heights(compact).min() < 0.9:
        compact = rng.normal(size=(3, 3)) * rng.uniform(0.6, 3, size=(3, 1))
    # Another cell of the same lattice, the more skewed the larger `shear` is.
    cell = (
        np.array([[1, rng.integers(-shear, shear + 1), shear], [0, 1, rng.integers(-shear, shear + 1)], [0, 0, 1]])
        @ compact
    )
    positions = rng.uniform(0, 1, size=(count, 3)) @ compact
    expected = closest_distance(positions, compact, max_distance)
    moved = positions + rng.integers(-3, 4, size=(count, 3)) @ cell
    found = closest_pair_within(moved, cell, max_distance)
    if expected is None or found is None:
        assert expected is found is None
        return
    assert found.distance == pytest.approx(expected, abs=1e-9)
    pair = positions[[found.first, found.second]]
    assert found.first < found.second
    assert closest_distance(pair, compact, max_distance) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_reduced_cell(seed):
    rng = np.random.default_rng(seed)
    compact = rng.normal(size=(3, 3)) + np.eye(3)
    if abs(np.linalg.det(compact)) < 0.05:
        return
    skewed = (
        np.linalg.multi_dot([np.eye(3, dtype=int) + np.triu(rng.integers(-9, 10, size=(3, 3)), k) for k in (1, 1, 1)])
        @ compact
    )
    reduced = reduce_cell(skewed)
    change = reduced @ np.linalg.inv(skewed)
    np.testing.assert_allclose(change, np.rint(change), atol=1e-8)
    assert abs(np.linalg.det(reduced)) == pytest.approx(abs(np.linalg.det(skewed)), rel=1e-8)
    steps = np.array([s for s in itertools.product(range(-4, 5), repeat=3) if any(s)])
    lengths = np.linalg.norm(steps @ reduced, axis=1)
    assert shortest_lattice_vector(skewed) == pytest.approx(lengths.min(), rel=1e-9)


def test_three_vectors_nearly_in_a_plane():
    # No vector can be shortened by another one, but their sum is (0, 0, 0.9).
    cell = np.array([[5, 0, 0.3], [-2.5, 4.33, 0.3], [-2.5, -4.33, 0.3]])
    assert shortest_lattice_vector(cell) == pytest.approx(0.9)

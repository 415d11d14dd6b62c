# SPDX-License-Identifier: MIT
"""Everything that makes a crystal unusable is found and named."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtnn_fast.crystals.checks import (
    SHORTEST_DISTANCE,
    check_crystal,
    closest_pair_within,
    reduce_cell,
    shortest_lattice_vector,
)
from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.datasets.bundled import load_labelled, load_structures
from dtnn_fast.errors import BadCrystalError

CUBE = np.eye(3) * 4.0


def salt(**changes):
    values = {"id": "salt", "atomic_numbers": [11, 17], "positions": [[0, 0, 0], [2, 2, 2]], "cell": CUBE}
    return Crystal.make(**(values | changes))


def test_bundled_crystals_pass():
    for crystal in load_labelled() + load_structures():
        check_crystal(crystal)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"atomic_numbers": [], "positions": []}, "salt: there are no atoms"),
        ({"positions": [[0, 0, 0], [NAN, 2, 2]]}, r"salt: the position of atom 1 \(Cl\) is NaN or infinite"),
        ({"positions": [[0, -INF, 0], [2, 2, 2]]}, r"salt: the position of atom 0 \(Na\) is NaN or infinite"),
        ({"cell": np.diag([4, NAN, 4])}, "salt: the cell has a NaN or infinite component"),
        ({"cell": np.diag([4, INF, 4])}, "salt: the cell has a NaN or infinite component"),
        ({"cell": np.diag([4, 1e9, 4])}, "salt: a component .* beyond 1e.06 Angstrom"),
        ({"cell": np.diag([4, 4, 0])}, "salt: the cell has no volume: 0 cubic Angstrom for 2 atoms"),
        ({"cell": [[4, 0, 0], [0, 4, 0], [4, 4, 1e-9]]}, "salt: the cell has no volume"),
        ({"cell": np.eye(3) * 0.9}, "salt: the cell has no volume"),
        ({"pbc": [True, False, False]}, "salt: not periodic along b, c"),
        (
            {"positions": [[0, 0, 0], [0.1, 0, 0]]},
            r"atoms 0 \(Na\) and 1 \(Cl\), counted from 0, are 0.1 Angstrom apart$",
        ),
        ({"positions": [[0.1, 0, 0], [3.9, 0, 4]]}, r"atoms 0 .* 0.2 Angstrom apart across the border of the cell$"),
        ({"cell": np.diag([20, 20, 0.2])}, "salt: every atom is 0.2 Angstrom from its own periodic image"),
        ({"atomic_numbers": [11, 0]}, "salt: atomic number 0 is outside 1 to 118"),
        ({"atomic_numbers": [119, 17]}, "salt: atomic number 119 is outside 1 to 118"),
    ],
)
def test_bad_crystals(changes, message):
    with pytest.raises(BadCrystalError, match=message):
        check_crystal(salt(**changes))


def test_nan_is_named_before_anything_is_computed_with_it():
    with pytest.raises(BadCrystalError, match=r"NaN"):
        check_crystal(salt(atomic_numbers=[300, 17], positions=[[NAN] * 3, [0, 0, 0]]))


def test_unknown_elements():
    check_crystal(salt(), known_elements={11, 17})
    with pytest.raises(BadCrystalError, match=r"salt: element Cl is unknown to the model; it knows H Na$"):
        check_crystal(salt(), known_elements={11, 1})
    with pytest.raises(BadCrystalError, match=r"elements Na, Cl are unknown to the model; it knows H$"):
        check_crystal(salt(), known_elements=[1])


def test_message_names_the_source():
    with pytest.raises(BadCrystalError, match=r"^salt \(file.cif\): there are no atoms"):
        check_crystal(salt(atomic_numbers=[], positions=[], source="file.cif"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"atomic_numbers": [11.5, 17]}, "integer dtype"),
        ({"atomic_numbers": [[11, 17]]}, "`atomic_numbers` of shape"),
        ({"atomic_numbers": [[11], [17, 1]]}, "`atomic_numbers`"),
        ({"positions": [[0, 0, 0]]}, r"`positions` of shape \[2, 3\].*got \[1, 3\]"),
        ({"positions": [[0, 0], [1, 1]]}, r"`positions` of shape \[2, 3\].*got \[2, 2\]"),
        ({"positions": [["a", 0, 0], [1, 1, 1]]}, "`positions` to be numbers"),
        ({"cell": [4, 4, 4]}, r"`cell` of shape \[3, 3\], got \[3\]"),
        ({"cell": None}, r"`cell`"),
        ({"pbc": "xyz"}, "`pbc`"),
    ],
)
def test_wrong_shapes_and_dtypes(changes, message):
    with pytest.raises(BadCrystalError, match=rf"salt: .*{message}"):
        salt(**changes)


def heights(cell):
    """Distances between opposite faces of a cell; 0 for one without volume."""
    faces = np.cross(np.roll(cell, -1, axis=0), np.roll(cell, -2, axis=0))
    areas = np.linalg.norm(faces, axis=1)
    return abs(np.linalg.det(cell)) / np.where(areas > 0, areas, 1)


def brute_force(positions, cell, reach):
    """The closest distance below reach over all pairs and every image that can be in reach, or None."""
    differences = (positions[None] - positions[:, None])[np.triu_indices(len(positions), 1)]
    longest = reach + np.linalg.norm(differences, axis=1).max()
    spans = np.ceil(longest * np.linalg.norm(np.linalg.inv(cell), axis=0)).astype(int).tolist()
    steps = np.array(list(itertools.product(*(range(-n, n + 1) for n in spans))))
    closest = np.linalg.norm(differences[:, None] + steps @ cell, axis=-1).min()
    return closest if closest < reach else None


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**9), count=st.integers(2, 6), reach=st.sampled_from([0.3, 1.0, 2.5]), shear=st.integers(0, 4)
)
def test_closest_pair_equals_brute_force(seed, count, reach, shear):
    rng = np.random.default_rng(seed)
    compact = np.zeros((3, 3))
    # A flatter cell would have the brute force go through more images than fit into memory.
    while heights(compact).min() < 0.9:
        compact = rng.normal(size=(3, 3)) * rng.uniform(0.6, 3, size=(3, 1))
    # Another cell of the same lattice, the more skewed the larger `shear` is.
    cell = (
        np.array([[1, rng.integers(-shear, shear + 1), shear], [0, 1, rng.integers(-shear, shear + 1)], [0, 0, 1]])
        @ compact
    )
    positions = rng.uniform(0, 1, size=(count, 3)) @ compact
    expected = brute_force(positions, compact, reach)
    moved = positions + rng.integers(-3, 4, size=(count, 3)) @ cell
    found = closest_pair_within(moved, cell, reach)
    if expected is None or found is None:
        assert expected is found is None
        return
    assert found.distance == pytest.approx(expected, abs=1e-9)
    pair = positions[[found.first, found.second]]
    assert found.first < found.second
    assert brute_force(pair, compact, reach) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("place", [0, 137, 2196])
def test_large_crystal(place):
    """Beyond 200 atoms only atoms close along one direction are compared; a planted twin must still be found."""
    grid = np.array(list(itertools.product(range(13), repeat=3))) * 2.5
    cell = np.eye(3) * 2.5 * 13 @ np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]])
    numbers = [14] * len(grid)
    check_crystal(Crystal.make("grid", numbers, grid, cell))
    # The twin sits on the other side of the cell's border for atom 0.
    twin = grid[place] - [0.1, 0.0, 0.05]
    crystal = Crystal.make("grid", [*numbers, 6], np.vstack([grid, twin]), cell)
    with pytest.raises(BadCrystalError, match=rf"atoms {place} \(Si\) and 2197 \(C\), counted from 0, are 0.112"):
        check_crystal(crystal)


def test_all_atoms_at_one_place():
    crystal = Crystal.make("heap", [1] * 500, np.zeros((500, 3)), np.eye(3) * 10)
    with pytest.raises(BadCrystalError, match=r"are 0 Angstrom apart$"):
        check_crystal(crystal)


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


def test_shortest_distance_itself_is_allowed():
    check_crystal(salt(positions=[[0, 0, 0], [SHORTEST_DISTANCE * 1.001, 0, 0]]))

# SPDX-License-Identifier: MIT
"""Everything that makes a crystal unusable is found, and the message names it."""

import itertools

import numpy as np
import pytest

from dtnn_fast.crystals.checks import check_crystal
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


def test_nan_is_reported_before_anything_is_computed_with_it():
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


@pytest.mark.parametrize("place", [0, 137, 2196])
def test_duplicate_atom_in_a_large_crystal(place):
    """Beyond 200 atoms, only atoms that are close along one direction are compared; the duplicate must be found."""
    grid = np.array(list(itertools.product(range(13), repeat=3))) * 2.5
    cell = np.eye(3) * 2.5 * 13 @ np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]])
    numbers = [14] * len(grid)
    check_crystal(Crystal.make("grid", numbers, grid, cell))
    # For atom 0, the duplicate is on the other side of the cell's border.
    duplicate = grid[place] - [0.1, 0.0, 0.05]
    crystal = Crystal.make("grid", [*numbers, 6], np.vstack([grid, duplicate]), cell)
    with pytest.raises(BadCrystalError, match=rf"atoms {place} \(Si\) and 2197 \(C\), counted from 0, are 0.112"):
        check_crystal(crystal)


def test_all_atoms_at_one_place():
    crystal = Crystal.make("heap", [1] * 500, np.zeros((500, 3)), np.eye(3) * 10)
    with pytest.raises(BadCrystalError, match=r"are 0 Angstrom apart$"):
        check_crystal(crystal)

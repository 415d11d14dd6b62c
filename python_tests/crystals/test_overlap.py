# SPDX-License-Identifier: MIT
"""Atoms that overlap and crystals that are too dense are refused; no real crystal is, whatever the pressure."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from bonding_examples import FCC, rock_salt

from dtnn_fast.crystals.checks import SMALLEST_RADIUS_FRACTION, check_crystal
from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.errors import BadCrystalError


def molecule(numbers, distance):
    """Two atoms in a box."""
    return Crystal.make("molecule", numbers, [[1, 1, 1], [1 + distance, 1, 1]], np.eye(3) * 8)


def test_zirconia_with_the_wrong_origin():
    """Tetragonal ZrO2 whose atoms are given for another origin than its operations: O-O 0.46 Angstrom apart."""
    cell = np.diag([3.595, 3.595, 5.185])
    oxygen = [[0.25, 0.25, z] for z in (0.4561, 0.5439, 0.9561, 0.0439)]
    numbers, fractional = [40, 40, 8, 8, 8, 8], [[0.75, 0.25, 0.75], [0.25, 0.75, 0.25], *oxygen]
    with pytest.raises(
        BadCrystalError,
        match=r"zirconia: atoms 2 \(O\) and 3 \(O\), counted from 0, are 0.455 Angstrom apart: less than half the sum "
        r"of their covalent radii \(1.32 Angstrom\)",
    ):
        check_crystal(Crystal.from_fractional("zirconia", numbers, fractional, cell))


@pytest.mark.parametrize("scale", [0.5, 1 / 1.8897])
def test_lengths_that_are_too_small_as_a_whole(scale):
    """MgO with half the lattice constant, or with lengths that were divided by a Bohr once too often."""
    with pytest.raises(BadCrystalError, match=r"bonds are about 0.5[14] times the usual length: are all lengths in"):
        check_crystal(rock_salt(12, 8, 4.212 * scale))


def test_most_crystals_with_half_their_lattice_constants_are_refused():
    crystals = load_labelled()[::10]
    refused = 0
    for crystal in crystals:
        try:
            check_crystal(replace(crystal, positions=0.5 * crystal.positions, cell=0.5 * crystal.cell))
        except BadCrystalError:
            refused += 1
    assert refused >= 0.97 * len(crystals)


@pytest.mark.parametrize(
    ("numbers", "distance"),
    [
        ([1, 1], 0.74),
        ([7, 7], 1.10),
        ([6, 8], 1.13),
        ([6, 6], 1.20),
        ([8, 8], 1.21),
        ([8, 8], 1.28),  # superoxide
        ([9, 9], 1.41),
        ([92, 8], 1.67),  # uranyl
        ([23, 7], 1.55),
        ([24, 24], 1.68),  # the shortest bond of two metals
        ([78, 6], 1.68),
    ],
)
def test_the_shortest_bonds_known_are_allowed(numbers, distance):
    check_crystal(molecule(numbers, distance))


def test_matter_at_the_highest_pressures_is_allowed():
    """Transparent sodium (hP4) at 320 GPa, cesium at 184 GPa, metallic hydrogen at 500 GPa."""
    a, c = 2.784, 3.873
    cell = [[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, c]]
    fractional = [[0, 0, 0], [0, 0, 0.5], [1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]]
    check_crystal(Crystal.from_fractional("sodium", [11] * 4, fractional, cell))
    check_crystal(Crystal.from_fractional("cesium", [55] * 4, FCC, np.eye(3) * (4 * 14.9) ** (1 / 3)))
    check_crystal(Crystal.make("hydrogen", [1], [[0, 0, 0]], np.eye(3) * 1.2 ** (1 / 3)))


def test_the_limit_is_the_fraction_of_the_radii():
    limit = SMALLEST_RADIUS_FRACTION * (1.66 + 1.02)
    check_crystal(molecule([11, 17], limit * 1.15))
    with pytest.raises(BadCrystalError, match=r"less than half"):
        check_crystal(molecule([11, 17], limit * 0.999))


def test_an_atom_and_its_image():
    cell = np.diag([2.0, 9.0, 9.0])
    with pytest.raises(BadCrystalError, match=r"every image of atom 0 \(Cs\), counted from 0, is 2 Angstrom from the"):
        check_crystal(Crystal.make("row", [55], [[0, 0, 0]], cell))


def test_elements_beyond_the_table_of_radii():
    check_crystal(molecule([98, 8], 2.2))
    with pytest.raises(BadCrystalError, match=r"atoms 0 \(Cf\) and 1 \(Cf\).*less than half"):
        check_crystal(molecule([98, 98], 1.5))


def test_one_close_pair_among_thousands_of_atoms():
    grid = np.array(list(itertools.product(range(17), repeat=3))) * 2.5
    cell = np.eye(3) * 2.5 * 17
    check_crystal(Crystal.make("grid", [14] * len(grid), grid, cell))
    grid[4000] += [1.6, 0, 0]
    with pytest.raises(BadCrystalError, match=r"atoms 4000 \(Si\) and 4289 \(Si\), counted from 0, are 0.9 Angstrom"):
        check_crystal(Crystal.make("grid", [14] * len(grid), grid, cell))


def test_more_matter_than_space():
    """CsF with 0.62 of its lattice constant: no two atoms overlap, but four fifths of its volume are missing."""
    with pytest.raises(BadCrystalError, match=r"rock salt: the cell is too small: .* have 4.8 times this volume"):
        check_crystal(rock_salt(55, 9, 0.62 * 6.01))

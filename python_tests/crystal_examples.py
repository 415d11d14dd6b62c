# SPDX-License-Identifier: MIT
"""One real crystal of each crystal system, and comparisons of crystals."""

import numpy as np
from ase import Atoms
from pymatgen.core import Lattice, Structure

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.symmetry import CRYSTAL_SYSTEMS

_LABELLED = load_labelled()
ONE_OF_EACH_SYSTEM = [
    next(crystal for crystal in _LABELLED if crystal.info["crystal_system"] == system) for system in CRYSTAL_SYSTEMS
]
SYSTEM_IDS = [f"{crystal.info['crystal_system']}-{crystal.id}" for crystal in ONE_OF_EACH_SYSTEM]


def thermal_mgo(repeats, displacement=0.02):
    """Repeated cubic cells of MgO, every component of every atom moved by a normal random number in Angstrom."""
    steps = np.array(np.meshgrid(*map(range, repeats), indexing="ij")).reshape(3, -1).T
    corners = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2
    places = (np.concatenate([corners, corners + 0.5])[None] + steps[:, None]).reshape(-1, 3)
    positions = 4.2567 * places + displacement * np.random.default_rng(12).normal(size=places.shape)
    return Crystal.make("MgO", [*[12] * 4, *[8] * 4] * len(steps), positions, 4.2567 * np.diag(repeats))


def to_pymatgen(crystal):
    numbers = crystal.atomic_numbers.tolist()
    return Structure(Lattice(crystal.cell), numbers, crystal.positions, coords_are_cartesian=True)


def to_ase(crystal):
    return Atoms(numbers=crystal.atomic_numbers, positions=crystal.positions, cell=crystal.cell, pbc=crystal.pbc)


def assert_same_frame(actual, expected, tolerance):
    """Same atoms in the same order and frame; atoms may have been wrapped into the cell."""
    assert isinstance(actual, Crystal), actual
    np.testing.assert_array_equal(actual.atomic_numbers, expected.atomic_numbers)
    np.testing.assert_allclose(actual.cell, expected.cell, atol=tolerance)
    fractional = (actual.positions - expected.positions) @ np.linalg.inv(expected.cell)
    np.testing.assert_allclose((fractional - np.rint(fractional)) @ expected.cell, 0, atol=tolerance)
    assert actual.pbc.all()


def assert_same_up_to_rotation(actual, expected, tolerance):
    """Same distances between atoms: CIF keeps lengths and angles, not the frame, and may sort the atoms."""
    assert isinstance(actual, Crystal), actual
    np.testing.assert_array_equal(np.sort(actual.atomic_numbers), np.sort(expected.atomic_numbers))
    np.testing.assert_allclose(actual.cell @ actual.cell.T, expected.cell @ expected.cell.T, atol=tolerance)
    for z in np.unique(expected.atomic_numbers):
        np.testing.assert_allclose(_distances(actual, z), _distances(expected, z), atol=tolerance)


def _distances(crystal, z):
    steps = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), axis=-1).reshape(-1, 3) @ crystal.cell
    fractional = crystal.positions @ np.linalg.inv(crystal.cell)
    wrapped = (fractional - np.floor(fractional + 1e-6)) @ crystal.cell
    centers = wrapped[crystal.atomic_numbers == z]
    images = (wrapped[None] + steps[:, None]).reshape(-1, 3)
    distances = np.sort(np.linalg.norm(images[None] - centers[:, None], axis=-1).ravel())
    # Longer distances are incomplete, because only the surrounding cells are searched.
    return distances[distances < 0.5 * np.linalg.norm(crystal.cell, axis=1).min()]

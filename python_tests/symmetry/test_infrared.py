# SPDX-License-Identifier: MIT
"""Symmetry forbids the ionic part where no optical phonon transforms like a vector: results of group theory."""

from dataclasses import replace

import numpy as np
import pytest
from crystal_examples import thermal_mgo

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.datasets.bundled import load_labelled, load_structures
from dtnn_fast.errors import BadCrystalError, MissingPackageError
from dtnn_fast.symmetry import find_symmetry, forbids_ionic_response, has_infrared_active_modes, symmetrised
from dtnn_fast.symmetry.infrared import _more_than_acoustic
from dtnn_fast.symmetry.space_group import search_symmetry

FCC = (1 - np.eye(3)) / 2
BCC = 0.5 - np.eye(3)
CUBIC = np.eye(3)


def hexagonal(a, c):
    return np.array([[a, 0, 0], [-a / 2, a * 3**0.5 / 2, 0], [0, 0, c]])


HCP = [[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]]
RHOMBOHEDRAL = np.array([[0, 2, 0], [3**0.5, -1, 0], [-(3**0.5), -1, 0]]) * 1.085 + [0, 0, 3.52]
CORNERS = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2


def spiral(x):
    """The three atoms of a turn in the chains of Se and Te (P3121)."""
    return [[x, 0, 1 / 3], [0, x, 2 / 3], [-x, -x, 0]]


def make(name, numbers, places, cell):
    return Crystal.from_fractional(name, numbers, places, cell)


# The irreducible representations of the optical
# modes are in the comments; infrared-active ones are marked with a star.
CASES = [
    make("Si", [14, 14], [[0, 0, 0], [0.25] * 3], 5.43 * FCC),  # T2g
    make("diamond", [6, 6], [[0, 0, 0], [0.25] * 3], 3.567 * FCC),
    make("Ge of 8 atoms", [32] * 8, [*CORNERS, *(CORNERS + 0.25)], 5.66 * CUBIC),
    make("Cu", [29], [[0, 0, 0]], 3.61 * FCC),  # none
    make("W", [74], [[0, 0, 0]], 3.165 * BCC),  # none
    make("W of 2 atoms", [74, 74], [[0, 0, 0], [0.5] * 3], 3.165 * CUBIC),
    make("Mg", [12, 12], HCP, hexagonal(3.21, 5.21)),  # E2g + B1g
    make("La", [57] * 4, [[0, 0, 0], [0, 0, 0.5], *HCP], hexagonal(3.77, 12.16)),  # dhcp, with A2u* and E1u*
    make("beta-Sn", [50] * 4, [[0, 0, 0], [0, 0.5, 0.25], [0.5] * 3, [0.5, 0, 0.75]], np.diag([5.83, 5.83, 3.18])),
    make(
        "As",
        [33, 33],
        [[0.2271] * 3, [-0.2271] * 3],
        np.array([[0, 1.78, 3.9], [1.54, -0.89, 3.9], [-1.54, -0.89, 3.9]]),
    ),
    make("NaCl", [11, 17], [[0, 0, 0], [0.5] * 3], 5.64 * FCC),  # T1u*
    make("MgO", [12, 8], [[0, 0, 0], [0.5] * 3], 4.2567 * FCC),
    make("ZnS", [30, 16], [[0, 0, 0], [0.25] * 3], 5.41 * FCC),  # T2*
    make("CsCl", [55, 17], [[0, 0, 0], [0.5] * 3], 4.12 * CUBIC),
    make("fluorite", [20, 9, 9], [[0, 0, 0], [0.25] * 3, [0.75] * 3], 5.46 * FCC),  # T1u* + T2g
    make("Se", [34] * 3, spiral(0.225), hexagonal(4.366, 4.954)),  # A1 + A2* + 2 E*
    make("Te", [52] * 3, spiral(0.263), hexagonal(4.457, 5.929)),
    make(
        "graphite",
        [6] * 4,
        [[0, 0, 0.25], [0, 0, 0.75], *HCP],
        hexagonal(2.46, 6.71),
    ),
]
ACTIVE = {"La", "NaCl", "MgO", "ZnS", "CsCl", "fluorite", "Se", "Te", "graphite"}


@pytest.mark.parametrize("crystal", CASES, ids=[crystal.id for crystal in CASES])
def test_infrared_active_modes(crystal):
    assert has_infrared_active_modes(crystal) is (crystal.id in ACTIVE)
    assert forbids_ionic_response(crystal) is (crystal.id not in ACTIVE)


def expand(name, number, space_group, sites, cell):
    """All atoms of an element from one of each orbit, in the standard setting of the space group."""
    moyopy = pytest.importorskip("moyopy")
    operations = moyopy.operations_from_number(space_group, setting=moyopy.Setting.standard())
    found = []
    for rotation, translation in zip(operations.rotations, operations.translations, strict=True):
        for place in np.array(sites) @ np.array(rotation).T + translation:
            if not any(np.allclose((place - other + 0.5) % 1, 0.5, atol=1e-4) for other in found):
                found.append(place)
    return make(name, [number] * len(found), found, cell)


def test_elements_with_inequivalent_atoms():
    boron = expand("B12", 5, 166, [[0.1191, -0.1191, 0.8915], [0.1963, -0.1963, 0.0243]], hexagonal(4.908, 12.567))
    assert boron.num_atoms == 36
    assert has_infrared_active_modes(boron)
    sites = [[0.8554, 0.9526, 0.9516], [0.7844, 0.0301, 0.0763], [0.7069, 0.9795, 0.0040], [0.7862, 0.9073, 0.1290]]
    sulfur = expand("S8", 16, 70, sites, np.diag([10.464, 12.866, 24.486]))
    assert sulfur.num_atoms == 128
    assert has_infrared_active_modes(sulfur)
    phosphorus = next(crystal for crystal in load_structures() if crystal.id == "mp-157")
    assert has_infrared_active_modes(phosphorus)  # B1u* + B2u*


@pytest.mark.parametrize("crystal", CASES, ids=[crystal.id for crystal in CASES])
def test_born_charges_that_symmetry_allows(crystal):
    """Without infrared-active modes, charges that obey the symmetry and add up to zero are all zero, and vice versa."""
    moyopy = pytest.importorskip("moyopy")
    places = crystal.positions @ np.linalg.inv(crystal.cell)
    cell = moyopy.Cell(crystal.cell.tolist(), places.tolist(), crystal.atomic_numbers.tolist())
    operations = moyopy.MoyoDataset(cell, symprec=0.01).operations
    charges = np.random.default_rng(0).normal(size=(len(places), 3, 3))
    mean = np.zeros_like(charges)
    for fractional_rotation, translation in zip(operations.rotations, operations.translations, strict=True):
        rotation = crystal.cell.T @ np.array(fractional_rotation) @ np.linalg.inv(crystal.cell.T)
        moved = places @ np.array(fractional_rotation).T + translation
        offsets = moved[:, None] - places[None]
        target = np.linalg.norm((offsets - np.rint(offsets)) @ crystal.cell, axis=2).argmin(axis=1)
        mean[target] += rotation @ charges @ rotation.T / len(operations)
    mean -= mean.mean(axis=0)
    assert (np.abs(mean).max() > 0.01) == (crystal.id in ACTIVE)


def test_supercells_and_distortions():
    steps = np.array(np.meshgrid(*[range(3)] * 3)).reshape(3, -1).T
    places = (np.array([[0, 0, 0], [0.25] * 3])[None] + steps[:, None]).reshape(-1, 3)
    silicon = make("Si", [14] * 54, places / 3, 3 * 5.43 * FCC)
    assert forbids_ionic_response(silicon)
    moved = np.random.default_rng(0).normal(size=(54, 3))
    assert forbids_ionic_response(replace(silicon, positions=silicon.positions + 1e-4 * moved))
    assert not forbids_ionic_response(replace(silicon, positions=silicon.positions + 0.05 * moved))


def test_unknown_symmetry_forbids_nothing(monkeypatch):
    large = thermal_mgo((9, 9, 8))
    element = replace(large, atomic_numbers=np.full_like(large.atomic_numbers, 14))
    assert has_infrared_active_modes(element) is None
    assert not forbids_ionic_response(element)
    assert has_infrared_active_modes(large)
    with pytest.raises(BadCrystalError, match="NaN"):
        has_infrared_active_modes(replace(CASES[0], positions=CASES[0].positions * np.nan))
    monkeypatch.setitem(__import__("sys").modules, "moyopy", None)
    assert not forbids_ionic_response(CASES[0])
    with pytest.raises(MissingPackageError, match="moyopy"):
        has_infrared_active_modes(CASES[0])


def test_bundled_crystals_with_tensors_have_infrared_active_modes():
    """An ionic part was published for each of them. Every fourth crystal is tested here."""
    assert all(has_infrared_active_modes(crystal) for crystal in load_labelled()[::4])


def test_crystals_of_several_elements_have_modes_also_by_group_theory():
    """They are not searched, because each element is a copy of the vector representation of its own."""
    crystals = [crystal for crystal in load_structures()[::25] if len(set(crystal.atomic_numbers.tolist())) > 1]
    assert len(crystals) > 200
    found = [search_symmetry(crystal, 0.01) for crystal in crystals]
    assert all(_more_than_acoustic(symmetry.primitive()) for symmetry in found if symmetry is not None)


def test_single_forbidden_elements_stay_with_the_point_group():
    rough = np.arange(9.0).reshape(3, 3)
    tensor = symmetrised(rough + rough.T, find_symmetry(CASES[-1]).rotations)
    assert (tensor[~np.eye(3, dtype=bool)] == 0).all()
    assert tensor[0, 0] == pytest.approx(tensor[1, 1])

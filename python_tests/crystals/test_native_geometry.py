# SPDX-License-Identifier: MIT
"""Native code says of many crystals at once what plain NumPy says of each: bundled, sheared, spoiled, random ones."""

import itertools
import re
from dataclasses import replace

import geometry_reference as reference
import numpy as np
import pytest
from bonding_examples import FCC, rock_salt
from hypothesis import given, settings
from hypothesis import strategies as st

from dtnn_fast.crystals.bonding import describe_bonding
from dtnn_fast.crystals.checks import check_crystal, check_crystals
from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.crystals.lattice import closest_pair_within, reduce_cells, wrap_into_compact_cells
from dtnn_fast.crystals.packed import PackedCrystals
from dtnn_fast.crystals.structure_index import pair_distribution
from dtnn_fast.datasets.bundled import load_labelled, load_structures

BUNDLED = load_labelled() + load_structures()
# One of the crystals that are spoiled has all elements that this model knows.
KNOWN = frozenset({1, 3, 8, 11, 12, 14, 16, 17, 22, 26, 30, 38, 56})


def sheared(crystal, rng):
    """The same crystal in another cell, its atoms moved by lattice vectors."""
    matrix = np.eye(3, dtype=int)
    for _ in range(3):
        row, column = rng.permutation(3)[:2]
        matrix[row] += int(rng.integers(-3, 4)) * matrix[column]
    moves = rng.integers(-3, 4, (crystal.num_atoms, 3)) @ crystal.cell
    return replace(crystal, positions=crystal.positions + moves, cell=matrix @ crystal.cell)


def spoiled(crystal, rng):
    """A crystal with a random fault, which may be too small to matter."""
    positions, cell, numbers, pbc = (
        crystal.positions.copy(),
        crystal.cell.copy(),
        crystal.atomic_numbers.copy(),
        crystal.pbc.copy(),
    )
    atom, other = rng.integers(0, crystal.num_atoms, 2)
    match int(rng.integers(0, 10)):
        case 0:
            positions[atom, rng.integers(3)] = rng.choice([np.nan, np.inf, 1e7])
        case 1:
            cell[rng.integers(3), rng.integers(3)] = rng.choice([np.nan, -np.inf, 1e7])
        case 2:
            pbc[rng.integers(3)] = False
        case 3:
            numbers[atom] = rng.choice([-1, 0, 2, 92, 119, 10**12])
        case 4:
            scale = rng.choice([0.02, 0.3, 0.5, 0.53, 0.6, 0.7])
            positions, cell = scale * positions, scale * cell
        case 5:
            positions[atom] = positions[other] + rng.choice([0.0, 0.01, 0.2, 0.6, 1.0]) * rng.normal(size=3) / 1.7
            positions[atom] += rng.integers(-1, 2, 3) @ cell
        case 6:
            cell[rng.integers(3)] *= rng.choice([0.0, 1e-3, 0.05, 0.2])
        case 7:
            positions += rng.choice([0.1, 0.4, 1.0]) * rng.normal(size=positions.shape)
        case 8:
            positions, numbers = positions[:0], numbers[:0]
        case _:
            positions = np.vstack([positions, positions[atom] + cell[0]])
            numbers = np.append(numbers, numbers[atom])
    return Crystal(crystal.id, numbers, positions, cell, pbc)


def molecule(distance, numbers=(1, 1)):
    """Two atoms in a box, which scales with their distance."""
    return Crystal.make("pair", numbers, [[0, 0, 0], [distance, 0, 0]], np.eye(3) * 30 * distance)


def filled_cube():
    """Cs in a cubic close packing, Cl and F in its holes: nothing fills space better without any overlap."""
    octahedral, tetrahedral = FCC + 0.5, np.vstack([FCC + 0.25, FCC + 0.75])
    numbers = [55] * 4 + [17] * 4 + [9] * 8
    return Crystal.from_fractional("cube", numbers, np.vstack([FCC, octahedral, tetrahedral]), np.eye(3))


def without_rounding_errors(message):
    """The message with distances below 1e-9 Angstrom, which are rounding errors of 0, as 0."""
    return None if message is None else re.sub(r"are [\d.]+e-(09|[1-9]\d) Angstrom", "are 0 Angstrom", message)


def test_bundled_crystals_are_sound():
    for crystals in (BUNDLED, [sheared(c, np.random.default_rng(0)) for c in BUNDLED]):
        assert check_crystals(crystals) == [None] * len(crystals)
    assert [reference.raised(crystal) for crystal in BUNDLED[::5]] == [None] * len(BUNDLED[::5])


@pytest.mark.parametrize("known", [None, KNOWN])
def test_spoiled_crystals_get_the_same_messages(known):
    rng = np.random.default_rng(1)
    crystals = [spoiled(crystal, rng) for crystal in (BUNDLED[k] for k in rng.integers(0, len(BUNDLED), 3000))]
    crystals.append(rock_salt(55, 9, 0.62 * 6.01))
    messages = [None if error is None else str(error) for error in check_crystals(crystals, known)]
    # Pairs that are equally close up to rounding are told by their numbers in both.
    for crystal, message in zip(crystals, messages, strict=True):
        assert without_rounding_errors(message) == without_rounding_errors(reference.raised(crystal, known))
    if known is None:
        words = ("no atoms", "NaN", "beyond", "not periodic", "outside 1", "no volume", "one place", "across")
        for word in (*words, "covalent", "every image", "too close", "too small", "own periodic image"):
            assert any(message is not None and word in message for message in messages), word
    assert messages.count(None) > 10


def test_a_bad_crystal_costs_the_others_nothing():
    rng = np.random.default_rng(2)
    good = BUNDLED[:200]
    mixed = [crystal for pair in zip(good, [spoiled(c, rng) for c in good], strict=True) for crystal in pair]
    errors = check_crystals(mixed)
    assert errors[::2] == [None] * len(good)
    assert [str(e) for e in errors] == [str(check_crystals([crystal])[0]) for crystal in mixed]
    assert any(errors)
    for crystal, error in zip(mixed, errors, strict=True):
        if error is None:
            check_crystal(crystal)
    assert check_crystals([]) == []


@pytest.mark.parametrize(
    ("crystal", "at_limit"),
    [
        # Two atoms at one place; overlapping atoms; all atoms too close; a cell that is too small; and without volume.
        (molecule(1.0), 0.3),
        (molecule(0.5 * (1.66 + 1.02), [11, 17]), 1.0),
        (rock_salt(11, 17, 2 * 0.56 * (1.66 + 1.02)), 1.0),
        (filled_cube(), (4 / 3 * np.pi * (4 * 2.44**3 + 4 * 1.02**3 + 8 * 0.57**3) / 4.5) ** (1 / 3)),
        (Crystal.make("hydrogen", [1], [[0, 0, 0]], np.eye(3)), 0.5 ** (1 / 3)),
    ],
)
def test_crystals_near_limits(crystal, at_limit):
    """No crystal falls between the native check and the one that explains."""
    messages = []
    for difference in (-1e-7, -1e-11, 1e-11, 1e-7):
        scale = at_limit * (1 + difference)
        scaled = replace(crystal, positions=scale * crystal.positions, cell=scale * crystal.cell)
        error = check_crystals([scaled])[0]
        messages.append(None if error is None else str(error))
        assert messages[-1] == reference.raised(scaled)
    assert messages[0] == messages[1] != messages[2] == messages[3]


def test_reduced_cells():
    rng = np.random.default_rng(3)
    cells = np.stack([sheared(crystal, rng).cell for crystal in BUNDLED])
    reduced = reduce_cells(cells)
    expected = np.stack([reference.reduced_cell(cell) for cell in cells])
    # Of equally short vectors another one may be taken, so lengths and lattice are compared.
    np.testing.assert_allclose(np.linalg.norm(reduced, axis=2), np.linalg.norm(expected, axis=2), rtol=1e-11)
    steps = reduced @ np.linalg.inv(cells)
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-8)
    np.testing.assert_allclose(np.abs(np.linalg.det(np.rint(steps))), 1.0)
    order = np.linalg.norm(reduced, axis=2)
    assert (np.diff(order, axis=1) >= -1e-12 * order[:, 1:]).all()


def test_bonding_of_bundled_crystals():
    rng = np.random.default_rng(4)
    crystals = [sheared(crystal, rng) for crystal in BUNDLED[::4]]
    for cutoff in (2.6, 5.0):
        for crystal, found in zip(crystals, describe_bonding(crystals, cutoff), strict=True):
            expected = reference.bonding(crystal, cutoff)
            assert found[:2] == expected[:2], crystal.id
            assert found.bond_fraction == pytest.approx(expected.bond_fraction, rel=1e-10)


def test_bonding_of_random_networks():
    """Near the threshold where bonds begin to connect a crystal, all dimensions and unions of large parts occur."""
    rng = np.random.default_rng(7)
    crystals = []
    for _ in range(1500):
        num_atoms = int(rng.integers(2, 40))
        cell = (np.eye(3) + 0.3 * rng.normal(size=(3, 3))) * 2.0 * num_atoms ** (1 / 3) * rng.uniform(0.8, 1.4, (3, 1))
        if abs(np.linalg.det(cell)) > num_atoms:
            positions = rng.uniform(size=(num_atoms, 3)) @ cell
            crystals.append(Crystal.make("network", rng.integers(1, 90, num_atoms), positions, cell))
    dimensions = []
    for cutoff in (1.7, 2.1, 2.5):
        for crystal, found in zip(crystals, describe_bonding(crystals, cutoff), strict=True):
            expected = reference.bonding(crystal, cutoff)
            assert found[:2] == expected[:2]
            assert found.bond_fraction == pytest.approx(expected.bond_fraction, rel=1e-9)
            dimensions.append(found.dimension)
    assert (np.bincount(dimensions, minlength=4) > 20).all()


def test_a_frame_that_joins_a_larger_molecule_late():
    """The union of two parts is endless in all directions of both, whichever is larger and whichever comes first."""
    side, rng = 12.0, np.random.default_rng(8)
    frame = np.vstack([[[0, 0, 0]], *(step * np.eye(3) for step in (2, 4, 6, 8, 10))])
    molecule = side / 2 + 0.4 * rng.uniform(-1, 1, (25, 3))
    chain = np.linspace([6, 6, 6], [6, 0, 0], 6)[1:-1]
    for order in itertools.permutations([frame, molecule, chain]):
        positions = np.vstack(order)
        crystal = Crystal.make("frame", [6] * len(positions), positions, np.eye(3) * side)
        for cutoff, dimension in ((1.6, 0), (1.75, 0), (2.05, 3)):
            found = describe_bonding([crystal], cutoff)[0]
            assert found[:2] == reference.bonding(crystal, cutoff)[:2]
            assert found.dimension == dimension


def test_atoms_are_wrapped_by_lattice_vectors():
    rng = np.random.default_rng(5)
    packed = PackedCrystals.of([sheared(crystal, rng) for crystal in BUNDLED[::7]])
    pbc = packed.pbc.copy()
    pbc[::3, 1] = False
    positions, cells = wrap_into_compact_cells(packed.positions, packed.cells, pbc, packed.ptr)
    volumes = np.abs(np.linalg.det(cells))
    np.testing.assert_allclose(volumes, np.abs(np.linalg.det(packed.cells)), rtol=1e-9)
    assert (np.linalg.norm(cells, axis=2).prod(axis=1) <= 8.0 * volumes)[pbc.all(axis=1)].all()
    for b, (start, end) in enumerate(zip(packed.ptr[:-1], packed.ptr[1:], strict=True)):
        moved = positions[start:end] - packed.positions[start:end]
        if b % 3 == 0:
            assert not moved.any()
            np.testing.assert_array_equal(cells[b], packed.cells[b])
            continue
        steps = moved @ np.linalg.inv(cells[b])
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-8)
        fractional = positions[start:end] @ np.linalg.inv(cells[b])
        # Atoms on a face are at 0, not at 1.
        assert (fractional > -1.1e-9).all()
        assert (fractional < 1 - 0.9e-9).all()


def test_pair_distributions():
    rng = np.random.default_rng(6)
    for crystal in BUNDLED[::15]:
        np.testing.assert_allclose(
            pair_distribution(sheared(crystal, rng)), reference.pair_distribution(crystal), atol=1e-9
        )


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10**9),
    num_atoms=st.integers(1, 60),
    spread=st.sampled_from([0.0, 1e-13, 1e-4, 0.1, 1.0]),
    max_distance=st.sampled_from([0.3, 1.5, 4.0]),
)
def test_closest_pairs_of_heaps(seed, num_atoms, spread, max_distance):
    """Some atoms anywhere and the others in a heap, in cells of any shape."""
    rng = np.random.default_rng(seed)
    cell = rng.normal(size=(3, 3)) * rng.uniform(1, 12, size=(3, 1)) + 3 * np.eye(3)
    if abs(np.linalg.det(cell)) < 10:
        return
    positions = rng.uniform(0, 1, size=(num_atoms, 3)) @ cell
    heap = rng.integers(0, num_atoms + 1)
    positions[:heap] = positions[0] + spread * rng.normal(size=(heap, 3))
    positions += rng.integers(-2, 3, size=(num_atoms, 3)) @ cell
    pairs, distance = reference.closest_pairs(positions, cell, max_distance)
    found = closest_pair_within(positions, cell, max_distance)
    if distance is None:
        assert found is None
        return
    assert found.distance == pytest.approx(distance, rel=1e-8, abs=1e-11)
    if distance > 1e-3:
        assert (found.first, found.second) in pairs

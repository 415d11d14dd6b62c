# SPDX-License-Identifier: MIT
"""The structure type of a crystal does not depend on how the crystal is described."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_cases import orthogonal, permuted, recelled, transformed, unwrapped

from dtnn_fast.crystals import Crystal
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.symmetry import MAX_ATOMS, crystal_system_of_group, describe_symmetry

# Of each space group that occurs one small crystal.
BY_GROUP = {c.info["space_group"]: c for c in sorted(load_labelled(), key=lambda c: -c.num_atoms) if c.num_atoms < 25}
CELLS = (
    [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    [[0, 1, 0], [0, 0, 1], [1, 0, 0]],
    [[0, 0, 1], [0, 1, 0], [1, 0, 0]],
    [[1, 0, 0], [1, 1, 0], [0, -1, 1]],
    [[1, 1, 0], [0, 1, 2], [0, 0, 1]],
    [[2, 0, 0], [0, 1, 0], [0, 0, 1]],
    [[1, 0, 0], [0, 1, 0], [0, 0, 3]],
    [[1, 1, 0], [-1, 1, 0], [0, 0, 1]],
    [[2, 0, 0], [0, 2, 0], [0, 0, 2]],
)


def shifted(crystal, shift):
    return Crystal.make(crystal.id, crystal.atomic_numbers, crystal.positions + shift, crystal.cell)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(BY_GROUP)), st.sampled_from(CELLS), st.integers(0, 10**6), st.booleans())
def test_it_does_not_depend_on_cell_origin_frame_or_order(group, cell, seed, improper):
    crystal = BY_GROUP[group]
    expected = describe_symmetry(crystal)
    random = np.random.default_rng(seed)
    other = recelled(crystal, cell)
    other = permuted(other, random.permutation(other.num_atoms))
    other = unwrapped(shifted(other, random.normal(size=3)), seed=seed)
    found = describe_symmetry(transformed(other, orthogonal(seed % 1000, improper)))
    assert (found.prototype, found.wyckoff) == (expected.prototype, expected.wyckoff)
    assert found.crystal_system == expected.crystal_system


def test_enough_space_groups_are_tested():
    assert len(BY_GROUP) > 80
    assert {crystal_system_of_group(group) for group in BY_GROUP} == {
        *("triclinic", "monoclinic", "orthorhombic", "tetragonal", "trigonal", "hexagonal", "cubic")
    }


def crystal(numbers, fractional, cell):
    cell = np.array(cell, dtype=float)
    return Crystal.make("x", numbers, np.array(fractional, dtype=float) @ cell, cell)


ROCK_SALT = 2.1 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
PEROVSKITE = [[0.5, 0.5, 0.5], [0, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]


@pytest.mark.parametrize(
    ("made", "prototype"),
    [
        (crystal([12, 8], [[0, 0, 0], [0.5, 0.5, 0.5]], ROCK_SALT), "AB_225_1@m-3m_1@m-3m"),
        (crystal([55, 17], [[0, 0, 0], [0.5, 0.5, 0.5]], 4 * np.eye(3)), "AB_221_1@m-3m_1@m-3m"),
        (crystal([38, 22, 8, 8, 8], PEROVSKITE, 3.9 * np.eye(3)), "ABC3_221_1@m-3m_1@m-3m_3@4/mm.m"),
        (crystal([6, 6], [[0, 0, 0], [0.25, 0.25, 0.25]], 1.78 * (ROCK_SALT / 2.1)), "A_227_2@-43m"),
    ],
)
def test_known_structures(made, prototype):
    assert describe_symmetry(made).prototype == prototype


def test_elements_have_letters_but_their_sites_have_elements():
    sr, ba = (crystal([z, 22, 8, 8, 8], PEROVSKITE, 3.9 * np.eye(3)) for z in (38, 56))
    exchanged = crystal([22, 38, 8, 8, 8], PEROVSKITE, 3.9 * np.eye(3))
    inverse = crystal([38, 8, 22, 22, 22], PEROVSKITE, 3.9 * np.eye(3))
    first, second, third, fourth = map(describe_symmetry, (sr, ba, exchanged, inverse))
    assert first.prototype == second.prototype == third.prototype == fourth.prototype
    assert first.wyckoff != second.wyckoff
    assert fourth.wyckoff not in (first.wyckoff, second.wyckoff)


def test_left_and_right_quartz_are_one_prototype():
    """Their space groups are a pair of mirror images; their tensors are the same."""
    quartz = next(c for c in load_labelled() if c.info["space_group"] in (152, 154))
    mirrored = transformed(quartz, np.diag([1.0, 1.0, -1.0]))
    one, other = describe_symmetry(quartz), describe_symmetry(mirrored)
    assert {one.space_group, other.space_group} == {152, 154}
    assert (one.prototype, one.wyckoff) == (other.prototype, other.wyckoff)
    assert "_152_" in one.prototype


def test_where_nothing_is_found():
    many = crystal([6] * (MAX_ATOMS + 1), np.random.default_rng(0).random((MAX_ATOMS + 1, 3)), 40 * np.eye(3))
    assert describe_symmetry(many) is None

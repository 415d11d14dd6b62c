# SPDX-License-Identifier: MIT
"""Compositions that can be insulators, against the flags that the bundled data sets were made with."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtnn_fast.crystals import charge_balance
from dtnn_fast.crystals.charge_balance import is_charge_balanced
from dtnn_fast.crystals.elements import atomic_number
from dtnn_fast.datasets.bundled import load_labelled, load_structures


def test_equals_the_flags_of_the_bundled_crystals():
    crystals = [*load_labelled(), *load_structures()]
    stored = np.array([crystal.info["charge_balanced"] for crystal in crystals])
    found = np.array([is_charge_balanced(crystal.atomic_numbers.tolist()) for crystal in crystals])
    assert 0.2 < stored.mean() < 0.9
    np.testing.assert_array_equal(found, stored)


@pytest.mark.parametrize(
    ("formula", "balanced"),
    [
        *(("Mg O", True), ("Fe Fe Fe O O O O", True), ("Ti O O", True), ("Ga As", True), ("Si", True), ("Si C", True)),
        *(("Fe Si", False), ("Hf Ru Ru Si", False), ("Cu", False), ("Co As", False), ("Mg O O O O O", False)),
        *(("Og O O", False),),
    ],
)
def test_well_known_compositions(formula, balanced):
    assert is_charge_balanced(map(atomic_number, formula.split())) is balanced


@given(st.lists(st.sampled_from([1, 3, 8, 9, 12, 14, 22, 26, 38, 56]), min_size=1, max_size=6), st.integers(2, 4))
def test_order_and_supercells_do_not_matter(numbers, copies):
    assert is_charge_balanced(numbers) == is_charge_balanced(numbers[::-1] * copies)


def test_memory_stays_bounded():
    for z in range(1, 90):
        for count in range(1, 60):
            is_charge_balanced([z] + [8] * count)
    kept = charge_balance._is_balanced.cache_info()
    assert kept.misses > kept.maxsize >= kept.currsize

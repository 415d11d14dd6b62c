# SPDX-License-Identifier: MIT
"""The splits never change, because the reported figures are defined by them."""

import numpy as np
import pytest

from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.datasets.cleaning import clean
from dtnn_fast.datasets.splits import split, split_by_group


def test_hand_computed():
    # Sorted as strings: mp-1 mp-10 mp-11 mp-12 mp-2 mp-3 mp-4 mp-5 mp-6 mp-7 mp-8 mp-9, so the indices in `ids` are:
    ids = [f"mp-{n}" for n in range(1, 13)]
    by_name = [0, 9, 10, 11, 1, 2, 3, 4, 5, 6, 7, 8]
    # numpy.random.RandomState(0).permutation(12), which NumPy promises never to change.
    permutation = [6, 11, 4, 10, 2, 8, 1, 7, 9, 3, 0, 5]
    expected = [by_name[p] for p in permutation]
    result = split(ids, seed=0)
    assert result.test.tolist() == expected[:1]
    assert result.validation.tolist() == expected[1:2]
    assert result.train.tolist() == expected[2:]


@pytest.mark.parametrize("seed", range(5))
def test_independent_of_order(seed):
    ids = [crystal.id for crystal in clean(load_labelled())[0]]
    shuffled = [ids[i] for i in np.random.default_rng(7).permutation(len(ids))]
    first, second = split(ids, seed), split(shuffled, seed)
    assert [len(part) for part in first] == [94, 94, 752]
    assert sorted(np.concatenate(first)) == list(range(940))
    for a, b in zip(first, second, strict=True):
        assert [ids[i] for i in a] == [shuffled[i] for i in b]


def test_seeds_differ():
    ids = [str(n) for n in range(100)]
    assert set(split(ids, 0).test) != set(split(ids, 1).test)


def test_fewer_than_ten():
    result = split(["b", "a"], 0)
    assert len(result.test) == len(result.validation) == 0
    assert sorted(result.train) == [0, 1]


def test_duplicate_id():
    with pytest.raises(ValueError, match=r"unique `ids`, got 'mp-1' at positions 0 and 2"):
        split(["mp-1", "mp-2", "mp-1"], 0)


class TestGroups:
    """Splits that keep groups together."""

    def test_groups_stay_together_and_sizes_are_tenths(self):
        crystals = clean(load_labelled())[0]
        groups = [crystal.chemical_system for crystal in crystals]
        for seed in range(3):
            parts = split_by_group([crystal.id for crystal in crystals], groups, seed)
            assert sorted(np.concatenate(parts)) == list(range(940))
            assert 94 <= len(parts.test) <= 100
            assert 85 <= len(parts.validation) <= 100
            sides = [{groups[index] for index in part} for part in parts]
            assert not sides[0] & sides[1]
            assert not (sides[0] | sides[1]) & sides[2]

    def test_folds_share_the_test_crystals_and_cover_the_rest(self):
        ids, groups = [str(n) for n in range(200)], [str(n // 3) for n in range(200)]
        parts = [split_by_group(ids, groups, 1, fold) for fold in range(9)]
        assert all((part.test == parts[0].test).all() for part in parts)
        assert sorted(np.concatenate([parts[0].test, *(part.validation for part in parts)])) == list(range(200))

    def test_does_not_depend_on_the_order(self):
        ids, groups = [str(n) for n in range(60)], [str(n % 17) for n in range(60)]
        order = np.random.default_rng(0).permutation(60)
        first = split_by_group(ids, groups, 0)
        second = split_by_group([ids[n] for n in order], [groups[n] for n in order], 0)
        for a, b in zip(first, second, strict=True):
            assert {ids[n] for n in a} == {ids[order[n]] for n in b}

    def test_a_large_group_leaves_some_for_every_tenth(self):
        groups = ["large"] * 500 + [str(n) for n in range(9)]
        for seed in range(5):
            for fold in range(9):
                parts = split_by_group([str(n) for n in range(509)], groups, seed, fold)
                assert min(map(len, parts)) > 0

    @pytest.mark.parametrize(
        ("groups", "message"),
        [(["a"] * 20, "at least 10 different `groups`, got 1"), (["a"], "`groups` of 20 crystals")],
    )
    def test_bad_groups(self, groups, message):
        with pytest.raises(ValueError, match=message):
            split_by_group([str(n) for n in range(20)], groups, 0)

# SPDX-License-Identifier: MIT
"""The splits never change, because the reported figures are defined by them."""

from dataclasses import fields, replace

import numpy as np
import pytest

from dtnn_fast.cli.config import DataSection
from dtnn_fast.cli.options import SplitBy
from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.datasets.cleaning import clean
from dtnn_fast.datasets.splits import SPLIT_BY, split, split_by_group, split_crystals, structure_groups


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


def rock_salt(id, a=4.2, **info):
    return Crystal.from_fractional(id, [12, 8], [[0, 0, 0], [0.5] * 3], 0.5 * a * (1 - np.eye(3)), info=info)


class TestStructures:
    """Splits that keep crystals of the same structure together."""

    @pytest.fixture
    def pooled(self):
        """A hundred crystals, half of them from a second set too: in another cell and slightly larger."""
        first = clean(load_labelled())[0][:100]
        second = [
            replace(
                crystal,
                id=f"second-{crystal.id}",
                cell=1.003 * np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]]) @ crystal.cell,
                positions=1.003 * crystal.positions,
            )
            for crystal in first[::2]
        ]
        return [*first, *second]

    def test_copies_are_in_one_group(self, pooled):
        group_of = dict(zip((crystal.id for crystal in pooled), structure_groups(pooled), strict=True))
        for id, group in group_of.items():
            assert group == group_of[id.removeprefix("second-")]
        assert len(set(group_of.values())) > 90

    def test_copies_are_on_one_side_and_a_plain_split_parts_them(self, pooled):
        def apart(split_by):
            side = {}
            for name, part in split_crystals(pooled, split_by, 0)._asdict().items():
                side |= {pooled[index].id: name for index in part}
            assert len(side) == len(pooled)
            return sum(side[crystal.id] != side[f"second-{crystal.id}"] for crystal in pooled[:100:2])

        assert apart("structures") == 0
        assert apart("systems") == 0
        assert apart("crystals") > 0

    def test_it_does_not_depend_on_the_order(self, pooled):
        order = np.random.default_rng(0).permutation(len(pooled)).tolist()
        shuffled = [pooled[index] for index in order]
        for first, second in zip(
            split_crystals(pooled, "structures", 1), split_crystals(shuffled, "structures", 1), strict=True
        ):
            assert {pooled[index].id for index in first} == {shuffled[index].id for index in second}

    def test_crystals_without_copies_are_groups_and_a_chain_of_copies_is_one(self):
        # Neighbors differ by 3 % in volume, the ends by 80 %.
        assert set(structure_groups([rock_salt(str(n), a=4.0 * 1.01**n) for n in range(20)])) == {"0"}
        far = [rock_salt(str(n), a=3.0 * 1.1**n) for n in range(9)]
        assert structure_groups(far) == [str(n) for n in range(9)]

    def test_listed_matches_join_groups_in_both_directions_and_through_others(self):
        far = [rock_salt(str(n), a=3.0 * 1.1**n) for n in range(6)]
        far[1] = rock_salt("1", a=3.3, matches=["0"])
        far[2] = rock_salt("2", a=3.0 * 1.1**2, matches=["elsewhere"])
        far[5] = rock_salt("5", a=3.0 * 1.1**5, matches=["elsewhere", "4"])
        assert structure_groups(far) == ["0", "0", "2", "3", "2", "2"]
        assert structure_groups(far[::-1]) == ["2", "2", "3", "2", "0", "0"]

    def test_every_name_is_known_everywhere(self):
        (field,) = (field for field in fields(DataSection) if field.name == "split_by")
        assert tuple(SplitBy) == SPLIT_BY
        assert field.metadata["limits"].choices == SPLIT_BY
        with pytest.raises(ValueError, match=r"`split_by` of crystals, structures, systems, got 'formula'"):
            split_crystals([], "formula", 0)

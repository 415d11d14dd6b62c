# SPDX-License-Identifier: MIT
"""The random splits into training, validation and test crystals that every reported figure uses."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

import numpy as np

from ..crystals.crystal import Crystal
from ..crystals.structure_index import StructureIndex

# Number of tenths that can be the validation set.
FOLDS = 9
# What a split can keep together; see `split_crystals`.
SPLIT_BY = ("crystals", "structures", "systems")


class Split(NamedTuple):
    """Indices into the ids. [n // 10], [n // 10] and the rest, int64."""

    test: np.ndarray
    validation: np.ndarray
    train: np.ndarray


def split(ids: Sequence[str], seed: int, fold: int = 0) -> Split:
    """Split crystals by id: a tenth for testing, a tenth for validation, the rest for training.

    The ids are sorted as strings and permuted by ``numpy.random.RandomState(seed).permutation(n)``. So the split does
    not depend on the order in which the crystals were read, and NumPy guarantees never to change this stream.

    Args:
        ids: one unique name for each crystal. [n]
        seed: 0 to 4 for the five splits of the reported results.
        fold: index of the tenth for validation among the crystals that are not for testing, 0 to 8; the members of an
            ensemble may differ in it.

    Returns:
        Indices into `ids`, in the order of the permutation.

    Raises:
        ValueError: an id occurs twice, which could put a crystal into both test and training; or the fold is
            invalid.
    """
    order = np.array(sorted(range(len(ids)), key=lambda i: ids[i]), dtype=np.int64)
    for before, after in pairwise(order.tolist()):
        if ids[before] == ids[after]:
            raise ValueError(f"split: expected unique `ids`, got {ids[before]!r} at positions {before} and {after}")
    shuffled = order[np.random.RandomState(seed).permutation(len(ids))]
    if not 0 <= fold < FOLDS:
        raise ValueError(f"split: expected `fold` from 0 to {FOLDS - 1}, got {fold}")
    tenth = len(ids) // 10
    test, rest = shuffled[:tenth], shuffled[tenth:]
    start, end = fold * tenth, (fold + 1) * tenth
    return Split(test, rest[start:end], np.concatenate([rest[:start], rest[end:]]))


def split_by_group(ids: Sequence[str], groups: Sequence[str], seed: int, fold: int = 0) -> Split:
    """Split crystals by id as `split` does, with whole groups on one side, such as chemical systems.

    The groups are sorted as strings and permuted by ``numpy.random.RandomState(seed)``; they fill ten tenths one after
    the other. A tenth has at least a tenth of the crystals that are left for it and the later ones, so that a large
    group makes its tenth larger.

    Args:
        ids: one unique name for each crystal. [n]
        groups: name of each crystal's group. [n]
        seed: seed of the permutation.
        fold: see `split`.

    Returns:
        Indices into `ids`: the first tenth, the tenth `fold` of the others, and the rest.

    Raises:
        ValueError: see `split`; or there are fewer than ten groups, or not as many groups as ids.
    """
    split(ids, seed, fold)  # checks ids and fold
    if len(groups) != len(ids):
        raise ValueError(f"split_by_group: expected `groups` of {len(ids)} crystals, got {len(groups)}")
    order = sorted(range(len(ids)), key=lambda index: (groups[index], ids[index]))
    members = [list(indices) for _, indices in groupby(order, key=lambda index: groups[index])]
    if len(members) < FOLDS + 1:
        raise ValueError(f"split_by_group: expected at least {FOLDS + 1} different `groups`, got {len(members)}")
    tenths: list[list[int]] = [[] for _ in range(FOLDS + 1)]
    shuffled = [members[place] for place in np.random.RandomState(seed).permutation(len(members)).tolist()]
    left, tenth = len(ids), 0
    for place, group in enumerate(shuffled):
        full = len(tenths[tenth]) * (FOLDS + 1 - tenth) >= left
        # Every tenth gets a group, also where a large one came early.
        last_chance = len(shuffled) - place <= FOLDS - tenth
        if tenths[tenth] and tenth < FOLDS and (full or last_chance):
            left -= len(tenths[tenth])
            tenth += 1
        tenths[tenth] += group
    test, *rest = (np.array(indices, dtype=np.int64) for indices in tenths)
    return Split(test, rest[fold], np.concatenate([part for place, part in enumerate(rest) if place != fold]))


def split_crystals(crystals: Sequence[Crystal], split_by: str, seed: int, fold: int = 0) -> Split:
    """Split crystals as training does.

    Args:
        crystals: crystals with unique ids.
        split_by: "crystals" for `split`; "structures" keeps crystals of the same structure together, see
            `structure_groups`; "systems" keeps those of a chemical system together.
        seed: see `split`.
        fold: see `split`.

    Returns:
        Indices into `crystals`.

    Raises:
        ValueError: see `split` and `split_by_group`; or `split_by` is unknown.
    """
    ids = [crystal.id for crystal in crystals]
    if split_by == "crystals":
        return split(ids, seed, fold)
    if split_by == "structures":
        return split_by_group(ids, structure_groups(crystals), seed, fold)
    if split_by == "systems":
        return split_by_group(ids, [crystal.chemical_system for crystal in crystals], seed, fold)
    raise ValueError(f"split_crystals: expected `split_by` of {', '.join(SPLIT_BY)}, got {split_by!r}")


def structure_groups(crystals: Sequence[Crystal]) -> list[str]:
    """Group crystals with the same structure, such as those of several data sets.

    Two crystals are in a group if `StructureIndex` finds one by the other as a similar structure, if the
    `info["matches"]` of one lists the id of the other, if both list the same id, or through other crystals. So nearly
    all calculations of a crystal are in its group, and some of its polymorphs.

    Args:
        crystals: crystals with unique ids that passed `check_crystal`.

    Returns:
        The first of the ids of each crystal's group, in the order of strings. It does not depend on the order of the
        crystals. [n]
    """
    group_of = {crystal.id: crystal.id for crystal in crystals}

    def find(id: str) -> str:
        root = id
        while group_of.setdefault(root, root) != root:
            root = group_of[root]
        while group_of[id] != root:
            group_of[id], id = root, group_of[id]
        return root

    index = StructureIndex(crystals)
    for crystal in crystals:
        for other in (*(known.id for known in index.find_all(crystal, similar=True)), *crystal.info.get("matches", ())):
            first, second = find(crystal.id), find(other)
            group_of[second] = first
    members: dict[str, list[str]] = {}
    for crystal in crystals:
        members.setdefault(find(crystal.id), []).append(crystal.id)
    return [min(members[find(crystal.id)]) for crystal in crystals]

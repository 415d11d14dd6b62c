# SPDX-License-Identifier: MIT
"""Further crystals beside a split: which are learned from, and which of the others tell how good Born charges are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..crystals.crystal import Crystal
from ..crystals.structure_index import StructureIndex
from ..datasets.splits import Split


def without_held_out(more: Sequence[Crystal], held_out: Sequence[Crystal], by_system: bool = False) -> list[Crystal]:
    """Leave out crystals that are the same as one for validation or testing.

    Args:
        more: crystals of other sets. `info["matches"]` may list ids of crystals with the same structure.
        held_out: crystals for validation and testing.
        by_system: whether all crystals of their chemical systems are left out.

    Returns:
        The crystals of `more` that have none of their ids in common with them, and no similar structure
        (`StructureIndex.find_all`): other calculations of a crystal differ in volume and distances.
    """
    ids = {crystal.id for crystal in held_out}
    systems = {crystal.chemical_system for crystal in held_out} if by_system else set()
    index = StructureIndex(held_out)
    return [
        crystal
        for crystal in more
        if crystal.chemical_system not in systems
        and ids.isdisjoint(_names(crystal))
        and not index.find_all(crystal, similar=True)
    ]


def held_out_with_charges(
    crystals: Sequence[Crystal], split: Split, more: Sequence[Crystal], learned: Sequence[Crystal], by_system: bool
) -> dict[str, list[Crystal]]:
    """Find the crystals with Born charges that a run did not learn from.

    These are the crystals of the split's parts, and the further crystals that were left out because they are the same
    as one there, or of its chemical system. A further crystal that fits both parts is for validation. Crystals that
    are the same as one that was learned from are none of these, whatever set that one is of.

    Args:
        crystals: crystals of the split.
        split: indices into `crystals`.
        more: all further crystals.
        learned: the crystals of `more` that were learned from; see `without_held_out`.
        by_system: whether the split is by chemical system.

    Returns:
        Crystals for "test" and "validation".
    """
    trained = [*(crystals[index] for index in split.train), *learned]
    known = {id(crystal) for crystal in learned}
    left_out = [crystal for crystal in more if id(crystal) not in known]
    validation = [crystals[index] for index in split.validation]
    only_tested = {id(crystal) for crystal in without_held_out(left_out, validation, by_system)}
    parts = {
        "test": [
            *(crystals[index] for index in split.test),
            *(crystal for crystal in left_out if id(crystal) in only_tested),
        ],
        "validation": [*validation, *(crystal for crystal in left_out if id(crystal) not in only_tested)],
    }
    # A crystal's list of matches may name the other one, or the other one's list may name it.
    trained_names = {name for crystal in trained for name in _names(crystal)}
    return {
        part: [
            crystal
            for crystal in without_held_out([c for c in candidates if _has_charges(c)], trained)
            if trained_names.isdisjoint(_names(crystal))
        ]
        for part, candidates in parts.items()
    }


def _has_charges(crystal: Crystal) -> bool:
    return crystal.born_charges is not None and bool(np.isfinite(crystal.born_charges).all())


def _names(crystal: Crystal) -> list[str]:
    matches = crystal.info.get("matches", ())
    return [crystal.id, *(matches.split() if isinstance(matches, str) else matches)]

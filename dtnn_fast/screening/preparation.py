# SPDX-License-Identifier: MIT
"""What is done with a crystal between reading and prediction: checks and symmetry. It needs no model and no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

from ..crystals.checks import check_crystals
from ..crystals.crystal import Crystal, Rejected
from ..errors import MissingPackageError
from ..symmetry import (
    SNAP_TOLERANCE,
    describe_found,
    find_operations,
    in_standard_cell,
    operations_of,
    search_symmetry,
    with_operations,
)

# Crystals that are checked in one native call.
CHECKED_TOGETHER = 64


class Prepared(NamedTuple):
    """Crystals that a model can predict, and the rejected ones.

    Args:
        crystals: crystals with space group, crystal system and prototype in `Crystal.info`, and with operations if
            requested.
        rejected: with reasons.
    """

    crystals: list[Crystal]
    rejected: list[Rejected]


@dataclass(frozen=True)
class Preparation:
    """Options of the preparation of crystals.

    Args:
        known_elements: atomic numbers that the model knows; empty for all.
        search_operations: smallest and largest number of atoms of the crystals whose symmetry operations are searched
            for; None for no search.
        cell: "primitive" or "conventional" for crystals in such a cell instead of their own; None to keep it.
        describe: whether space group, crystal system and prototype are found, unless the crystal has its prototype.
    """

    known_elements: tuple[int, ...] = ()
    search_operations: tuple[int, int] | None = None
    cell: str | None = None
    describe: bool = True

    def prepare(self, items: Iterable[Crystal | Rejected]) -> Prepared:
        """Check crystals, and find the requested facts about their symmetry; rejected items are passed on.

        Args:
            items: as readers give them.
        """
        prepared = Prepared([], [])
        stream = iter(items)
        while group := list(islice(stream, CHECKED_TOGETHER)):
            self._prepare_group(group, prepared)
        return prepared

    def _prepare_group(self, group: Sequence[Crystal | Rejected], prepared: Prepared) -> None:
        known = frozenset(self.known_elements) or None
        errors = iter(check_crystals([item for item in group if isinstance(item, Crystal)], known))
        for item in group:
            if isinstance(item, Rejected):
                prepared.rejected.append(item)
            elif error := next(errors):
                prepared.rejected.append(Rejected.from_error(error, item.id, item.source))
            else:
                prepared.crystals.append(self._with_symmetry(item))

    def _with_symmetry(self, crystal: Crystal) -> Crystal:
        if self.cell is not None:
            crystal = in_standard_cell(crystal, primitive=self.cell == "primitive")
        smallest, largest = self.search_operations or (1, 0)
        search_operations = smallest <= crystal.num_atoms <= largest
        if self.describe:
            return described(crystal, search_operations)
        return with_operations([crystal])[0] if search_operations else crystal


def described(crystal: Crystal, search_operations: bool = False) -> Crystal:
    """Put space group, crystal system, prototype and Wyckoff sequence into `Crystal.info`, unless they are there.

    What a file states about its symmetry is replaced, so that all crystals are judged alike. Without moyopy, or where
    it finds nothing, the crystal stays as it is.

    Args:
        crystal: a crystal that passed `check_crystal`.
        search_operations: whether its symmetry operations are found too, unless it has them.
    """
    search_operations = search_operations and crystal.operations is None
    if "wyckoff" in crystal.info:  # no source but our own shards has it
        return with_operations([crystal])[0] if search_operations else crystal
    try:
        found = search_symmetry(crystal)
        if search_operations:
            # Operations need a smaller tolerance. Most crystals are as symmetric as that, and one search is enough.
            exact = found is not None and found.holds_within(SNAP_TOLERANCE)
            operations = operations_of(found) if found is not None and exact else find_operations(crystal)
            crystal = replace(crystal, operations=operations)
    except MissingPackageError:
        return crystal
    if found is None:
        return crystal
    return replace(crystal, info={**crystal.info, **describe_found(found)._asdict()})

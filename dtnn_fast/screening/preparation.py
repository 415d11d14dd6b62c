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
from ..symmetry import describe_symmetry, in_standard_cell, with_operations

# Crystals that are checked in one native call.
CHECKED_TOGETHER = 64


class Prepared(NamedTuple):
    """Crystals that a model can be asked for, and the others.

    Args:
        crystals: with space group, crystal system and prototype in `Crystal.info`, and with operations where asked for.
        rejected: with reasons.
    """

    crystals: list[Crystal]
    rejected: list[Rejected]


@dataclass(frozen=True)
class Preparation:
    """How crystals are prepared.

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
        """Check crystals, and find what is asked about their symmetry; rejected items are passed on.

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
        if self.search_operations is not None:
            smallest, largest = self.search_operations
            if smallest <= crystal.num_atoms <= largest:
                (crystal,) = with_operations([crystal])
        return described(crystal) if self.describe else crystal


def described(crystal: Crystal) -> Crystal:
    """Put space group, crystal system, prototype and Wyckoff sequence into `Crystal.info`, unless they are there.

    What a file states about its symmetry is replaced, so that all crystals are judged alike. Without moyopy, or where
    it finds nothing, the crystal stays as it is.

    Args:
        crystal: a crystal that passed `check_crystal`.
    """
    if "wyckoff" in crystal.info:  # no source but our own shards has it
        return crystal
    try:
        facts = describe_symmetry(crystal)
    except MissingPackageError:
        return crystal
    return crystal if facts is None else replace(crystal, info={**crystal.info, **facts._asdict()})

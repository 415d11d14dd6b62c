# SPDX-License-Identifier: MIT
"""Crystal systems of space groups and of crystals."""

from __future__ import annotations

from ..crystals.crystal import Crystal
from ..errors import MissingPackageError
from .bounded_search import SYMPREC
from .space_group import space_group_number

# The last space group of each crystal system.
_LAST_SPACE_GROUP = {
    "triclinic": 2,
    "monoclinic": 15,
    "orthorhombic": 74,
    "tetragonal": 142,
    "trigonal": 167,
    "hexagonal": 194,
    "cubic": 230,
}
# The seven crystal systems, from triclinic to cubic.
CRYSTAL_SYSTEMS = tuple(_LAST_SPACE_GROUP)
# In place of a crystal system, where no space group is found.
UNKNOWN = "unknown"


def crystal_system_of_group(space_group: int) -> str:
    """Return the crystal system of a space group.

    Args:
        space_group: international number, 1 to 230.

    Raises:
        ValueError: there is no such space group.
    """
    if space_group >= 1:
        for name, last in _LAST_SPACE_GROUP.items():
            if space_group <= last:
                return name
    raise ValueError(f"crystal_system_of_group: expected `space_group` of 1 to 230, got {space_group}")


def crystal_system(crystal: Crystal, symprec: float = SYMPREC) -> str:
    """Find the crystal system with moyopy (an optional package).

    Args:
        crystal: a crystal that is periodic in all directions.
        symprec: see `find_symmetry`. Angstrom

    Returns:
        One of `CRYSTAL_SYSTEMS`, or ``"unknown"`` where moyopy finds no space group or the crystal has more than
        `MAX_ATOMS` atoms.

    Raises:
        BadCrystalError: positions or cell are not finite, or the cell has no volume.
        MissingPackageError: moyopy is not installed.
    """
    number = space_group_number(crystal, symprec)
    return UNKNOWN if number is None else crystal_system_of_group(number)


def known_crystal_system(crystal: Crystal, search: bool = True) -> str | None:
    """Return the crystal system in `info`, otherwise the one that `crystal_system` finds.

    Args:
        crystal: a crystal that passed `check_crystal`.
        search: whether to search where `info` has none; the search takes up to about a second for a large cell.

    Returns:
        The name, or None where it is unknown or moyopy is not installed.
    """
    system = crystal.info.get("crystal_system")
    if system is None and search:
        try:
            system = crystal_system(crystal)
        except MissingPackageError:
            return None
    return None if system is None or system == UNKNOWN else str(system)

# SPDX-License-Identifier: MIT
"""The crystal system of a structure, found by spglib."""

from __future__ import annotations

from typing import Any

import numpy as np

from .crystals.checks import check_cell
from .crystals.crystal import Crystal
from .errors import optional_import

# The last space group of each system.
_LAST_GROUP = {
    "triclinic": 2,
    "monoclinic": 15,
    "orthorhombic": 74,
    "tetragonal": 142,
    "trigonal": 167,
    "hexagonal": 194,
    "cubic": 230,
}
CRYSTAL_SYSTEMS = tuple(_LAST_GROUP)
UNKNOWN = "unknown"


def crystal_system_of_group(space_group: int) -> str:
    """Give the crystal system of a space group.

    Args:
        space_group: international number, 1 to 230.

    Raises:
        ValueError: there is no such space group.
    """
    if space_group >= 1:
        for name, last in _LAST_GROUP.items():
            if space_group <= last:
                return name
    raise ValueError(f"crystal_system_of_group: expected `space_group` of 1 to 230, got {space_group}")


def space_group_number(crystal: Crystal, symprec: float = 0.1) -> int | None:
    """Find the space group with spglib (an optional package).

    Args:
        crystal: a crystal that is periodic in all directions.
        symprec: how far an atom may be from its symmetric place. Angstrom

    Returns:
        The international number, or None where spglib finds none.

    Raises:
        BadCrystalError: positions or cell are no finite numbers, or the cell has no volume.
        MissingPackageError: spglib is not installed.
    """
    dataset = symmetry_dataset(crystal, symprec)
    return None if dataset is None else int(dataset.number)


def symmetry_dataset(crystal: Crystal, symprec: float) -> Any:
    """Ask spglib (an optional package) for its ``SpglibDataset``; arguments and errors as for `space_group_number`."""
    spglib = optional_import("spglib", extra="io", purpose="find the symmetry of crystals")
    check_cell(crystal)  # spglib can crash the interpreter on NaN and on cells without volume
    fractional = crystal.positions @ np.linalg.inv(crystal.cell)
    try:
        return spglib.get_symmetry_dataset((crystal.cell, fractional, crystal.atomic_numbers), symprec=symprec)
    except getattr(spglib, "SpglibError", RuntimeError):  # raised instead of returning None by newer versions
        return None


def crystal_system(crystal: Crystal, symprec: float = 0.1) -> str:
    """Find the crystal system with spglib (an optional package).

    Args:
        crystal: a crystal that is periodic in all directions.
        symprec: how far an atom may be from its symmetric place. Angstrom

    Returns:
        One of `CRYSTAL_SYSTEMS`, or ``"unknown"`` where spglib finds no space group.

    Raises:
        BadCrystalError: positions or cell are no finite numbers, or the cell has no volume.
        MissingPackageError: spglib is not installed.
    """
    number = space_group_number(crystal, symprec)
    return UNKNOWN if number is None else crystal_system_of_group(number)

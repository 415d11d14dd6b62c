# SPDX-License-Identifier: MIT
"""Search for the symmetry operations of a crystal in its own cell, for reduced graphs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from ..crystals.crystal import Crystal
from ..crystals.operations import SymmetryOperations
from ..errors import MissingPackageError
from .space_group import FoundSymmetry, search_symmetry

# Largest distance of an atom from its symmetric position. A tensor changes by about as much, relatively, as atoms that
# move by this: below 1e-3 where files are symmetric to three digits. Angstrom
SNAP_TOLERANCE = 1e-3
# Largest number of operations times atoms: beyond, as in perfect supercells of 200 atoms, the images of all atoms take
# longer than an encoder on the whole crystal, and the primitive cell is the better input.
MAX_IMAGES = 250_000


def find_operations(crystal: Crystal, tolerance: float = SNAP_TOLERANCE) -> SymmetryOperations | None:
    """Find the symmetry operations of a crystal with moyopy (an optional package).

    Operations that the shape of a supercell breaks are left out.

    Args:
        crystal: a crystal that is periodic in all directions.
        tolerance: largest distance of an atom from its symmetric position. Angstrom

    Returns:
        The operations. None if the only operation is the identity, if moyopy finds none, or if the crystal has more
        than `MAX_ATOMS` atoms or more than `MAX_IMAGES` images of atoms.

    Raises:
        BadCrystalError: positions or cell are not finite, or the cell has no volume.
        MissingPackageError: moyopy is not installed.
    """
    found = search_symmetry(crystal, tolerance)
    return None if found is None else operations_of(found)


def operations_of(found: FoundSymmetry) -> SymmetryOperations | None:
    """Return the operations that a search found; None as for `find_operations`."""
    crystal = found.crystal
    rotations, translations = found.cell_operations
    if len(rotations) == 1 or len(rotations) * crystal.num_atoms > MAX_IMAGES:
        return None
    fractional = crystal.positions @ np.linalg.inv(crystal.cell)
    moved = rotations @ fractional[0] + translations
    # The nearest atom of the element of the first one, in every lattice translation.
    alike = np.flatnonzero(crystal.atomic_numbers == crystal.atomic_numbers[0])
    offsets = moved[:, None] - fractional[alike]
    offsets -= np.rint(offsets)
    squares = np.square(offsets @ crystal.cell).sum(-1)
    return SymmetryOperations(rotations.astype(np.int32), alike[squares.argmin(1)].astype(np.int64))


def with_operations(crystals: Iterable[Crystal], tolerance: float = SNAP_TOLERANCE) -> list[Crystal]:
    """Search for the operations of the crystals that have none yet.

    Args:
        crystals: crystals that are periodic in all directions; others are returned as they are.
        tolerance: see `find_operations`. Angstrom

    Returns:
        The crystals in their order; without operations if none are found, or if moyopy is not installed.
    """
    found = list(crystals)
    try:
        for index, crystal in enumerate(found):
            if crystal.operations is None and crystal.pbc.all():
                found[index] = replace(crystal, operations=find_operations(crystal, tolerance))
    except MissingPackageError:
        pass
    return found

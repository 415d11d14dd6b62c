# SPDX-License-Identifier: MIT
"""moyopy's search for symmetry, in bounded time."""

from __future__ import annotations

import logging
from collections import Counter
from math import gcd
from typing import Any

import numpy as np

from ..crystals.checks import check_cell
from ..crystals.crystal import Crystal
from ..crystals.lattice import closest_pair_within, reduce_cell, shortest_lattice_vector
from ..errors import optional_import

# Larger crystals have no known symmetry. The search runs in native code, where Ctrl-C waits for its end, and takes
# longest where atoms are displaced by about a fifth of `symprec`: at most 1.3 s on one core for MgO, Si, Po, fcc and
# hcp cells of 512 to 800 atoms, but 1.9 s for 864, 4 s for 1,728, 14 s for 5,184 and 35 s for 4,096 atoms. Exact cells
# take 0.02 s for 800 and 0.8 s for 5,184 atoms.
MAX_ATOMS = 800
# Largest distance of an atom from its symmetric position, where nothing else is said. Angstrom
SYMPREC = 0.1
# Crystals with a shorter lattice vector have no known symmetry: moyopy takes shears of such lattices for symmetries
# and never returns. In real crystals the shortest one is about 2.2 Angstrom. Angstrom
SHORTEST_LATTICE_VECTOR = 1.0
# moyopy doubles `symprec` three times at most in our trials; see `_angle_tolerance`.
_MOST_DOUBLED = 8


def import_moyopy() -> Any:
    """Import moyopy, an optional package; raises MissingPackageError."""
    moyopy = optional_import("moyopy", extra="io", purpose="find the symmetry of crystals")
    # Its warnings, printed by Python where logging is not set up, are about operations that are not used here.
    logger = logging.getLogger("moyo")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.ERROR)
    return moyopy


def search_dataset(crystal: Crystal, symprec: float) -> Any:
    """Search for the symmetry of a crystal.

    Args:
        crystal: a crystal that is periodic in all directions.
        symprec: largest distance of an atom from its symmetric position. moyopy lowers or raises it, by a factor of 2
            in most cases, where operations within it are no group. Angstrom

    Returns:
        moyopy's ``MoyoDataset``, or None where it finds no symmetry or the crystal has more than `MAX_ATOMS` atoms.

    Raises:
        BadCrystalError: positions or cell are not finite, or the cell has no volume.
        MissingPackageError: moyopy is not installed.
    """
    moyopy = import_moyopy()
    check_cell(crystal)
    if crystal.num_atoms > MAX_ATOMS or shortest_lattice_vector(crystal.cell) < SHORTEST_LATTICE_VECTOR:
        return None
    fractional = crystal.positions @ np.linalg.inv(crystal.cell)
    cell = moyopy.Cell(crystal.cell.tolist(), fractional.tolist(), crystal.atomic_numbers.tolist())
    try:
        return moyopy.MoyoDataset(
            cell, symprec=symprec, angle_tolerance=_angle_tolerance(crystal, symprec), rotate_basis=False
        )
    except ValueError:
        return None
    except SystemError as error:
        # Ctrl-C, where it comes while moyopy writes a warning.
        if isinstance(error.__cause__ or error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        raise
    except BaseException as error:
        # A panic in Rust, which is no Exception.
        if type(error).__name__ != "PanicException":
            raise
        return None


def _angle_tolerance(crystal: Crystal, symprec: float) -> float | None:
    """Return the tolerance of angles for moyopy, which never returns where it takes a shear for a symmetry.

    Two near-symmetries that tilt the longest primitive lattice vector c by half of the shortest one, a, make a shear,
    and shears make an infinite group. moyopy's own test lets them pass where a^3 / (4 c) < symprec^2, and it searches
    with a `symprec` of up to a / 4: where a supercell has displaced atoms, it doubles `symprec` until their
    translations are a group. An angle below a / (2 c) excludes them.

    Returns:
        Radian, or None where moyopy's own test is safe.
    """
    lengths = np.linalg.norm(reduce_cell(crystal.cell), axis=1)
    shortest, longest = float(lengths.min()), float(lengths.max())
    # The cell holds at most this many primitive cells.
    counts = Counter(crystal.atomic_numbers.tolist())
    most_cells = gcd(*counts.values())
    if most_cells == 1:
        return None if _is_safe(shortest, longest, symprec) else shortest / (2 * longest) / 2
    if _is_safe(shortest / most_cells, longest, _MOST_DOUBLED * symprec):
        return None
    # Primitive lattice vectors connect atoms of the same element.
    rarest = crystal.atomic_numbers == min(counts, key=lambda z: (counts[z], z))
    pair = closest_pair_within(crystal.positions[rarest], crystal.cell, shortest)
    if pair is not None:
        shortest = pair.distance
    if _is_safe(shortest, longest, _MOST_DOUBLED * symprec):
        return None
    return shortest / (2 * longest) / (2 * _MOST_DOUBLED)


def _is_safe(shortest: float, longest: float, symprec: float) -> bool:
    return min(symprec, 0.25 * shortest) ** 2 < 0.6 * shortest**3 / (4 * longest)

# SPDX-License-Identifier: MIT
"""Search for the space group of a crystal with moyopy, in bounded time."""

from __future__ import annotations

import logging
from math import gcd
from typing import Any, NamedTuple

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


class CrystalSymmetry(NamedTuple):
    """Space group and point group of a crystal.

    Args:
        space_group: international number, 1 to 230.
        rotations: the point group in the Cartesian frame of the cell. [G, 3, 3], float64
    """

    space_group: int
    rotations: np.ndarray


class PrimitiveSymmetry(NamedTuple):
    """Space group of a crystal in a primitive cell whose atoms obey it exactly.

    Args:
        space_group: international number, 1 to 230.
        basis: rows are the primitive lattice vectors, as found in the crystal. [3, 3], float64, Angstrom
        rotations: rotation of each operation, for columns of fractional positions. [G, 3, 3], int64
        translations: translation of each operation, fractional. [G, 3], float64
        fractional: atoms at their symmetric positions. [N, 3], float64
    """

    space_group: int
    basis: np.ndarray
    rotations: np.ndarray
    translations: np.ndarray
    fractional: np.ndarray


def find_symmetry(crystal: Crystal, symprec: float = SYMPREC) -> CrystalSymmetry | None:
    """Find the space group and point group of a crystal with moyopy (an optional package).

    The point group is that of the primitive cell, so a supercell has the same as the crystal that it repeats.

    Args:
        crystal: a crystal that is periodic in all directions.
        symprec: largest distance of an atom from its symmetric position. moyopy lowers or raises it, by a factor of 2
            in most cases, where operations within it are no group. Angstrom

    Returns:
        Space group and point group, or None where moyopy finds none or the crystal has more than `MAX_ATOMS` atoms.

    Raises:
        BadCrystalError: positions or cell are not finite, or the cell has no volume.
        MissingPackageError: moyopy is not installed.
    """
    symmetry = find_primitive_symmetry(crystal, symprec)
    if symmetry is None:
        return None
    # R = L W L^-1, where the columns of L are lattice vectors.
    columns = symmetry.basis.T
    return CrystalSymmetry(symmetry.space_group, columns @ symmetry.rotations @ np.linalg.inv(columns))


def space_group_number(crystal: Crystal, symprec: float = SYMPREC) -> int | None:
    """Find the space group of a crystal with moyopy (an optional package).

    Args:
        crystal: a crystal that is periodic in all directions.
        symprec: see `find_symmetry`. Angstrom

    Returns:
        The international number, or None where moyopy finds none or the crystal has more than `MAX_ATOMS` atoms.

    Raises:
        BadCrystalError: positions or cell are not finite, or the cell has no volume.
        MissingPackageError: moyopy is not installed.
    """
    found = _moyo_dataset(crystal, symprec)
    return None if found is None else int(found.number)


def find_primitive_symmetry(crystal: Crystal, symprec: float) -> PrimitiveSymmetry | None:
    """Find the operations of a crystal in a primitive cell; see `find_symmetry`."""
    found = _moyo_dataset(crystal, symprec)
    if found is None:
        return None
    moyopy = _import_moyopy()
    # Not the operations in the cell of the crystal: moyopy leaves out those that the shape of a supercell breaks.
    operations = moyopy.operations_from_number(
        found.number, setting=moyopy.Setting.hall_number(found.hall_number), primitive=True
    )
    return PrimitiveSymmetry(
        int(found.number),
        np.asarray(found.prim_std_linear).T @ crystal.cell,
        np.asarray(operations.rotations),
        np.asarray(operations.translations),
        np.asarray(found.prim_std_cell.positions),
    )


class SiteOrbits(NamedTuple):
    """Orbits of the atoms of a crystal under its space group.

    Args:
        space_group: international number, 1 to 230.
        orbits: for each atom the first atom of its orbit. [N], int64
        site_symmetries: Hermann-Mauguin symbol of the site symmetry of each atom. [N]
        num_primitive_cells: how many primitive cells the cell holds.
    """

    space_group: int
    orbits: np.ndarray
    site_symmetries: list[str]
    num_primitive_cells: int


def find_orbits(crystal: Crystal, symprec: float = SYMPREC) -> SiteOrbits | None:
    """Find the orbits of atoms and their site symmetries; see `find_symmetry` for arguments, None and errors."""
    found = _moyo_dataset(crystal, symprec)
    if found is None:
        return None
    orbits = np.asarray(found.orbits, dtype=np.int64)
    cells = round(crystal.num_atoms / len(found.prim_std_cell.positions))
    return SiteOrbits(int(found.number), orbits, list(found.site_symmetry_symbols), cells)


class StandardCell(NamedTuple):
    """A cell of a crystal in the setting of the International Tables, in the frame of the crystal.

    Args:
        basis: rows are lattice vectors. [3, 3], float64, Angstrom
        fractional: atoms at their symmetric positions. [N, 3], float64
        atomic_numbers: [N], int64
    """

    basis: np.ndarray
    fractional: np.ndarray
    atomic_numbers: np.ndarray


def find_standard_cell(crystal: Crystal, symprec: float, primitive: bool) -> StandardCell | None:
    """Find the primitive or conventional cell; see `find_symmetry` for other arguments, None and errors."""
    found = _moyo_dataset(crystal, symprec)
    if found is None:
        return None
    cell, linear = (found.prim_std_cell, found.prim_std_linear) if primitive else (found.std_cell, found.std_linear)
    return StandardCell(
        np.asarray(linear).T @ crystal.cell, np.asarray(cell.positions), np.asarray(cell.numbers, dtype=np.int64)
    )


def find_cell_operations(crystal: Crystal, symprec: float) -> tuple[np.ndarray, np.ndarray] | None:
    """Find the operations in the cell of the crystal, without those that the shape of a supercell breaks.

    Args:
        crystal: see `find_symmetry`.
        symprec: see `find_symmetry`. Angstrom

    Returns:
        Rotations for columns of fractional positions [G, 3, 3], int64, and translations [G, 3], float64; None where
        `find_symmetry` gives none.
    """
    found = _moyo_dataset(crystal, symprec)
    if found is None:
        return None
    operations = found.operations
    return np.asarray(operations.rotations), np.asarray(operations.translations)


def _import_moyopy() -> Any:
    moyopy = optional_import("moyopy", extra="io", purpose="find the symmetry of crystals")
    # Its warnings, printed by Python where logging is not set up, are about operations that are not used here.
    logger = logging.getLogger("moyo")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.ERROR)
    return moyopy


def _moyo_dataset(crystal: Crystal, symprec: float) -> Any:
    """Return moyopy's ``MoyoDataset``, or None where it finds no symmetry or would search for long."""
    moyopy = _import_moyopy()
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
    elements, counts = np.unique(crystal.atomic_numbers, return_counts=True)
    most_cells = gcd(*counts.tolist())
    if most_cells == 1:
        return None if _is_safe(shortest, longest, symprec) else shortest / (2 * longest) / 2
    if _is_safe(shortest / most_cells, longest, _MOST_DOUBLED * symprec):
        return None
    # Primitive lattice vectors connect atoms of the same element.
    rarest = crystal.atomic_numbers == elements[np.argmin(counts)]
    pair = closest_pair_within(crystal.positions[rarest], crystal.cell, shortest)
    if pair is not None:
        shortest = pair.distance
    if _is_safe(shortest, longest, _MOST_DOUBLED * symprec):
        return None
    return shortest / (2 * longest) / (2 * _MOST_DOUBLED)


def _is_safe(shortest: float, longest: float, symprec: float) -> bool:
    return min(symprec, 0.25 * shortest) ** 2 < 0.6 * shortest**3 / (4 * longest)

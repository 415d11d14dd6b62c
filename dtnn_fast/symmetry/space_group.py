# SPDX-License-Identifier: MIT
"""Space group, point group, orbits and standard cells of a crystal, from one search with moyopy."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ..crystals.crystal import Crystal
from .bounded_search import SYMPREC, import_moyopy, search_dataset


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


class SiteOrbits(NamedTuple):
    """Orbits of the atoms of a crystal under its space group.

    Args:
        space_group: international number, 1 to 230.
        orbits: for each atom the first atom of its orbit. [N], int64
        site_symmetries: Hermann-Mauguin symbol of the site symmetry of each atom. [N]
        num_primitive_cells: number of primitive cells in the cell.
    """

    space_group: int
    orbits: np.ndarray
    site_symmetries: list[str]
    num_primitive_cells: int


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


class FoundSymmetry:
    """Result of one search for the symmetry of a crystal; made by `search_symmetry`.

    Args:
        crystal: the crystal.
        dataset: moyopy's ``MoyoDataset`` of it.
    """

    def __init__(self, crystal: Crystal, dataset: Any) -> None:
        self.crystal = crystal
        self._dataset = dataset

    @property
    def space_group(self) -> int:
        """International number, 1 to 230."""
        return int(self._dataset.number)

    def primitive(self) -> PrimitiveSymmetry:
        """Return the operations in a primitive cell."""
        moyopy = import_moyopy()
        # Not the operations in the cell of the crystal: moyopy leaves out those that the shape of a supercell breaks.
        operations = moyopy.operations_from_number(
            self._dataset.number, setting=moyopy.Setting.hall_number(self._dataset.hall_number), primitive=True
        )
        return PrimitiveSymmetry(
            self.space_group,
            self._basis(self._dataset.prim_std_linear),
            np.asarray(operations.rotations),
            np.asarray(operations.translations),
            np.asarray(self._dataset.prim_std_cell.positions),
        )

    def orbits(self) -> SiteOrbits:
        """Return the orbits of atoms and their site symmetries."""
        orbits = np.asarray(self._dataset.orbits, dtype=np.int64)
        cells = round(self.crystal.num_atoms / len(self._dataset.prim_std_cell.positions))
        return SiteOrbits(self.space_group, orbits, list(self._dataset.site_symmetry_symbols), cells)

    def standard_cell(self, primitive: bool) -> StandardCell:
        """Return the primitive or conventional cell."""
        found = self._dataset
        cell, linear = (found.prim_std_cell, found.prim_std_linear) if primitive else (found.std_cell, found.std_linear)
        return StandardCell(self._basis(linear), np.asarray(cell.positions), np.asarray(cell.numbers, dtype=np.int64))

    @cached_property
    def cell_operations(self) -> tuple[np.ndarray, np.ndarray]:
        """The operations in the cell of the crystal, without those that the shape of a supercell breaks.

        Rotations for columns of fractional positions [G, 3, 3], int64, and translations [G, 3], float64.
        """
        operations = self._dataset.operations
        return np.asarray(operations.rotations), np.asarray(operations.translations)

    def holds_within(self, tolerance: float) -> bool:
        """Tell whether a search with a smaller tolerance finds the same operations.

        Args:
            tolerance: largest distance between the image of an atom and the atom that it falls on, and of the image of
                a lattice vector from its place. Angstrom
        """
        found = self._dataset
        to_primitive = np.linalg.inv(np.asarray(found.prim_std_linear))
        fractional = self.crystal.positions @ np.linalg.inv(self.crystal.cell)
        offsets = (fractional - np.asarray(found.prim_std_origin_shift)) @ to_primitive.T
        offsets -= np.asarray(found.prim_std_cell.positions)[np.asarray(found.mapping_std_prim)]
        offsets -= np.rint(offsets)
        distances = np.linalg.norm(offsets @ self._basis(found.prim_std_linear), axis=1)
        # Both an atom and the image of another may be off.
        if not (2 * distances <= tolerance).all():
            return False
        # An operation W takes the scalar products of the lattice vectors, M, to W^T M W. A change of the lengths of a
        # and b by `tolerance` changes their product by at most tolerance (|a| + |b|).
        rotations, _ = self.cell_operations
        products = self.crystal.cell @ self.crystal.cell.T
        lengths = np.sqrt(products.diagonal())
        changes = np.abs(rotations.transpose(0, 2, 1) @ products @ rotations - products)
        return bool((2 * changes <= tolerance * (lengths[:, None] + lengths)).all())

    def _basis(self, linear: Any) -> np.ndarray:
        """Return the lattice vectors that a matrix of moyopy makes of those of the crystal, as rows."""
        return np.asarray(linear).T @ self.crystal.cell


def search_symmetry(crystal: Crystal, symprec: float = SYMPREC) -> FoundSymmetry | None:
    """Search for the symmetry of a crystal; see `find_symmetry` for arguments, None and errors."""
    dataset = search_dataset(crystal, symprec)
    return None if dataset is None else FoundSymmetry(crystal, dataset)


def find_symmetry(crystal: Crystal, symprec: float = SYMPREC) -> CrystalSymmetry | None:
    """Find the space group and point group of a crystal with moyopy (an optional package).

    The point group is that of the primitive cell, so a supercell has the same point group as the crystal that it
    repeats.

    Args:
        crystal: a crystal that is periodic in all directions.
        symprec: largest distance of an atom from its symmetric position. moyopy lowers or raises it, by a factor of 2
            in most cases, where operations within it are no group. Angstrom

    Returns:
        Space group and point group, or None if moyopy finds none or the crystal has more than `MAX_ATOMS` atoms.

    Raises:
        BadCrystalError: positions or cell are not finite, or the cell has no volume.
        MissingPackageError: moyopy is not installed.
    """
    found = search_symmetry(crystal, symprec)
    if found is None:
        return None
    symmetry = found.primitive()
    # R = L W L^-1, where the columns of L are lattice vectors.
    columns = symmetry.basis.T
    return CrystalSymmetry(symmetry.space_group, columns @ symmetry.rotations @ np.linalg.inv(columns))


def space_group_number(crystal: Crystal, symprec: float = SYMPREC) -> int | None:
    """Find the space group of a crystal with moyopy (an optional package).

    Args:
        crystal: a crystal that is periodic in all directions.
        symprec: see `find_symmetry`. Angstrom

    Returns:
        The international number, or None if moyopy finds no space group or the crystal has more than `MAX_ATOMS` atoms.

    Raises:
        BadCrystalError: positions or cell are not finite, or the cell has no volume.
        MissingPackageError: moyopy is not installed.
    """
    found = search_symmetry(crystal, symprec)
    return None if found is None else found.space_group

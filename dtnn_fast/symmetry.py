# SPDX-License-Identifier: MIT
"""Symmetry of crystals, found by spglib, and of their tensors: space group, crystal system, point group, frames."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .crystals.checks import check_cell
from .crystals.crystal import Crystal
from .errors import MissingPackageError, optional_import

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
CRYSTAL_SYSTEMS = tuple(_LAST_SPACE_GROUP)
# In place of a crystal system, where spglib finds no space group.
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


class CrystalSymmetry(NamedTuple):
    """Space group and point group of a crystal.

    Args:
        space_group: international number, 1 to 230.
        rotations: the point group in the Cartesian frame of the cell. [G, 3, 3], float64
    """

    space_group: int
    rotations: np.ndarray


def find_symmetry(crystal: Crystal, symprec: float = 0.1) -> CrystalSymmetry | None:
    """Find the symmetry of a crystal with spglib (an optional package).

    Args:
        crystal: a crystal that is periodic in all directions.
        symprec: largest distance of an atom from its symmetric position. Angstrom

    Returns:
        Space group and point group, or None where spglib finds none.

    Raises:
        BadCrystalError: positions or cell are not finite, or the cell has no volume.
        MissingPackageError: spglib is not installed.
    """
    dataset = _spglib_dataset(crystal, symprec)
    if dataset is None:
        return None
    # spglib's rotations W act on columns of fractional coordinates, and rows of the cell are lattice vectors:
    # R = L W L^-1 with L = cell^T. Without fractional translations the same W occurs once for each centering.
    operations = np.unique(np.asarray(dataset.rotations), axis=0)
    return CrystalSymmetry(int(dataset.number), crystal.cell.T @ operations @ np.linalg.inv(crystal.cell.T))


def space_group_number(crystal: Crystal, symprec: float = 0.1) -> int | None:
    """Find the space group with spglib (an optional package).

    Args:
        crystal: a crystal that is periodic in all directions.
        symprec: largest distance of an atom from its symmetric position. Angstrom

    Returns:
        The international number, or None where spglib finds none.

    Raises:
        BadCrystalError: positions or cell are not finite, or the cell has no volume.
        MissingPackageError: spglib is not installed.
    """
    dataset = _spglib_dataset(crystal, symprec)
    return None if dataset is None else int(dataset.number)


def _spglib_dataset(crystal: Crystal, symprec: float) -> Any:
    """Return spglib's ``SpglibDataset``, or None where it finds no symmetry."""
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
        symprec: largest distance of an atom from its symmetric position. Angstrom

    Returns:
        One of `CRYSTAL_SYSTEMS`, or ``"unknown"`` where spglib finds no space group.

    Raises:
        BadCrystalError: positions or cell are not finite, or the cell has no volume.
        MissingPackageError: spglib is not installed.
    """
    number = space_group_number(crystal, symprec)
    return UNKNOWN if number is None else crystal_system_of_group(number)


def known_crystal_system(crystal: Crystal) -> str | None:
    """Return the crystal system in `info`, otherwise spglib's; None where spglib is not installed or finds none."""
    system = crystal.info.get("crystal_system")
    if system is None:
        try:
            system = crystal_system(crystal)
        except MissingPackageError:
            return None
    return None if system == UNKNOWN else str(system)


def symmetrised(tensor: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """Return the part of a tensor that the symmetry of its crystal allows; forbidden elements are exactly zero.

    epsilon' = mean over R of (R epsilon R^T)

    Args:
        tensor: a symmetric tensor. [3, 3]
        rotations: the point group in the same frame. [G, 3, 3]; in a cell that is not perfectly symmetric these are
            only nearly rotations, so the nearest rotations are used.

    Returns:
        A symmetric tensor. [3, 3], float64
    """
    left, _, right = np.linalg.svd(rotations)
    nearest_rotations = left @ right
    mean = (nearest_rotations @ tensor @ nearest_rotations.transpose(0, 2, 1)).mean(axis=0)
    mean = 0.5 * (mean + mean.T)
    # Cells are published with six to eight digits, so terms that cancel leave a rest of this size.
    mean[np.abs(mean) < 1e-6 * np.abs(mean).max(initial=0.0)] = 0.0
    return mean


def symmetry_violation(tensor: np.ndarray, rotations: np.ndarray) -> float:
    """Measure the part of a tensor that the symmetry of its crystal forbids.

    max |epsilon - mean over R of (R epsilon R^T)| / max |epsilon|, which is zero for a tensor that obeys the symmetry
    (Neumann's principle).

    Args:
        tensor: a symmetric tensor. [3, 3]
        rotations: the point group in the same frame. [G, 3, 3]

    Returns:
        A number of 0 or more; 0 for the zero tensor.
    """
    largest = float(np.abs(tensor).max())
    if largest == 0:
        return 0.0
    mean = (rotations @ tensor @ rotations.transpose(0, 2, 1)).mean(axis=0)
    return float(np.abs(tensor - mean).max()) / largest


def from_ieee_frame(crystal: Crystal, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rotate tensors from the crystal's IEEE standard frame (ANSI/IEEE Std 176-1987) into the frame of its cell.

    The IEEE frame is the one of pymatgen's ``Tensor.get_ieee_rotation``, which the Materials Project uses:
    epsilon_cell = R^T epsilon_ieee R.

    Args:
        crystal: the crystal.
        tensors: symmetric tensors by name. [3, 3] each

    Returns:
        The tensors by name in the frame of `crystal.cell`.

    Raises:
        MissingPackageError: pymatgen is not installed.
    """
    core = optional_import("pymatgen.core", extra="io", purpose="rotate tensors into the frame of the cell")
    tensor_class = optional_import("pymatgen.core.tensors", extra="io", purpose="rotate tensors").Tensor
    structure = core.Structure(
        core.Lattice(crystal.cell), crystal.atomic_numbers.tolist(), crystal.positions, coords_are_cartesian=True
    )
    rotation = np.asarray(tensor_class.get_ieee_rotation(structure))
    rotated = {name: rotation.T @ tensor @ rotation for name, tensor in tensors.items()}
    # The product rounds the upper and lower half of a tensor differently.
    return {name: 0.5 * (tensor + tensor.T) for name, tensor in rotated.items()}

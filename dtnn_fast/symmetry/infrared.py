# SPDX-License-Identifier: MIT
"""Whether symmetry forbids the ionic part of the dielectric tensor, because no phonon couples to light."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..crystals.checks import check_cell
from ..crystals.crystal import Crystal
from ..errors import MissingPackageError
from .space_group import PrimitiveSymmetry, search_symmetry

# Tighter than for crystal systems: an ionic part is exactly zero only where symmetry is exact up to the digits of a
# file. Among the 6,631 bundled crystals the answer differs from that within 0.1 Angstrom for one. Angstrom
EXACT_SYMPREC = 0.01


def has_infrared_active_modes(crystal: Crystal, symprec: float = EXACT_SYMPREC) -> bool | None:
    """Decide by group theory whether an optical phonon at q = 0 can be infrared-active.

    An infrared-active mode transforms like a vector. With V the vector representation of the space group G modulo
    lattice translations, and M the one of the 3N displacements of the primitive cell's atoms,

        dim Hom(V, M) - dim Hom(V, V) = 1/|G| sum over g of chi_V(g) (chi_M(g) - chi_V(g))

    is 0 if and only if no optical mode is infrared-active: the acoustic modes are one copy of V. chi_V(g) is the trace
    of the rotation, and chi_M(g) is chi_V(g) times the number of atoms that g moves to themselves or to an image of
    themselves. The atoms of one element that move together are a copy of V, so crystals of several elements have such
    modes and need no search.

    Args:
        crystal: a crystal that is periodic in all directions.
        symprec: see `find_symmetry`. Angstrom

    Returns:
        Whether there are such modes (False for Si, diamond and hcp metals), or None where a crystal of one element has
        more than `MAX_ATOMS` atoms or no symmetry is found.

    Raises:
        BadCrystalError: positions or cell are not finite, or the cell has no volume.
        MissingPackageError: moyopy is needed and not installed.

    Example:
        >>> import numpy as np
        >>> from dtnn_fast.crystals import Crystal
        >>> fcc = 0.5 * (1 - np.eye(3))
        >>> silicon = Crystal.from_fractional("Si", [14, 14], [[0, 0, 0], [0.25, 0.25, 0.25]], 5.43 * fcc)
        >>> has_infrared_active_modes(silicon)
        False
    """
    check_cell(crystal)
    if (crystal.atomic_numbers != crystal.atomic_numbers[0]).any():
        return True
    found = search_symmetry(crystal, symprec)
    return None if found is None else _more_than_acoustic(found.primitive())


def forbids_ionic_response(crystal: Crystal) -> bool:
    """Decide whether symmetry makes the ionic part of the dielectric tensor exactly zero.

    Args:
        crystal: a crystal that passed `check_crystal`.

    Returns:
        True where no optical phonon can be infrared-active; False otherwise, where the symmetry is unknown, and where
        moyopy is not installed.
    """
    try:
        return has_infrared_active_modes(crystal) is False
    except MissingPackageError:
        return False


def find_forbidden_ionic_responses(crystals: Sequence[Crystal]) -> np.ndarray:
    """Apply `forbids_ionic_response` to several crystals; compounds of several elements need no search.

    Args:
        crystals: crystals that passed `check_crystal`, at least one.

    Returns:
        [B], bool
    """
    numbers = np.concatenate([crystal.atomic_numbers for crystal in crystals])
    starts = np.cumsum([0, *(crystal.num_atoms for crystal in crystals[:-1])])
    forbidden = np.minimum.reduceat(numbers, starts) == np.maximum.reduceat(numbers, starts)
    for index in np.flatnonzero(forbidden).tolist():
        forbidden[index] = forbids_ionic_response(crystals[index])
    return forbidden


def _more_than_acoustic(symmetry: PrimitiveSymmetry) -> bool:
    traces = np.trace(symmetry.rotations, axis1=1, axis2=2)
    # A sum of integers that is |G| times an integer of 0 or more.
    return bool((traces * traces * (_num_fixed_atoms(symmetry) - 1)).sum() > 0)


def _num_fixed_atoms(symmetry: PrimitiveSymmetry) -> np.ndarray:
    """Count the atoms that each operation moves to themselves or to an image of themselves. [G], int64"""
    moved = symmetry.fractional @ symmetry.rotations.transpose(0, 2, 1) + symmetry.translations[:, None]
    shift = moved - symmetry.fractional
    # The atoms are symmetric to about 14 digits.
    fixed: np.ndarray = (np.abs(shift - np.rint(shift)) < 1e-6).all(axis=2).sum(axis=1)
    return fixed

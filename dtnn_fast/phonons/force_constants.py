# SPDX-License-Identifier: MIT
"""Force constants at q = 0 of any function that computes forces, by central differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..crystals.crystal import Crystal
from .displacements import DISPLACEMENT, SYMMETRISE_TOLERANCE, DisplacementPlan, ForceConstants


def find_force_constants(
    crystal: Crystal,
    forces: Callable[[list[Crystal]], Sequence[Any]],
    displacement: float = DISPLACEMENT,
    *,
    tolerance: float = SYMMETRISE_TOLERANCE,
) -> ForceConstants:
    """Compute the force constants of a crystal at q = 0, and how far they break their laws.

    One atom of each orbit is displaced along the fewest directions whose images under its site symmetry span space, 1
    to 6 displacements, and the forces at rest are subtracted; see `DisplacementPlan`. The error of central differences
    grows with the square of the displacement and is about 2e-4 of the largest force constant for 0.01 Angstrom. It is
    another one in a supercell, where `potentials.gamma_force_constants` takes the polar part from the primitive cell.

    Args:
        crystal: with its operations, which `symmetry.with_operations` finds; without them all 6 N displacements are
            computed.
        forces: takes crystals, and returns the forces on the atoms of each. [N, 3] each, eV/Angstrom
        displacement: length of the displacements. Angstrom
        tolerance: largest distance that atoms and ends of lattice vectors move to become symmetric. Angstrom

    Returns:
        Force constants of the crystal with its atoms at their symmetric positions.

    Raises:
        BadCrystalError: the crystal has no atoms, no volume or an open direction; its operations do not map it onto
            itself within the tolerance; or the forces have another number or shape, are not finite, or give force
            constants that are not symmetric.
        ValueError: the displacement is not positive.
    """
    plan = DisplacementPlan.of(crystal, displacement, tolerance)
    return plan.force_constants(forces(plan.crystals()))


def force_constants(
    crystal: Crystal,
    forces: Callable[[list[Crystal]], Sequence[Any]],
    displacement: float = DISPLACEMENT,
    *,
    tolerance: float = SYMMETRISE_TOLERANCE,
) -> np.ndarray:
    """Compute the force constants of a crystal at q = 0; see `find_force_constants`.

    Returns:
        Symmetric, without forces on translations. [3 N, 3 N], float64, eV/Angstrom^2.

    Example:
        >>> from dtnn_fast.symmetry import with_operations
        >>> [crystal] = with_operations([crystal])
        >>> ionic_tensor(force_constants(crystal, potential.forces), born_charges, volume)
    """
    return find_force_constants(crystal, forces, displacement, tolerance=tolerance).matrix

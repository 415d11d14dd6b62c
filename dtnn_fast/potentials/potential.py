# SPDX-License-Identifier: MIT
"""What every interatomic potential can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from ..crystals.checks import check_crystal
from ..crystals.crystal import Crystal
from ..phonons import DISPLACEMENT


class PotentialResult(NamedTuple):
    """Energy of a crystal and its first derivatives.

    Args:
        energy: of the cell. eV
        forces: minus the derivatives by the positions. [N, 3], float64, eV/Angstrom
        stress: derivative of the energy by the strain, over the volume; positive where the crystal is stretched. None
            where the potential has none. [3, 3], float64, eV/Angstrom^3
    """

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None


class Potential(ABC):
    """An interatomic potential.

    Args:
        name: for messages.
        elements: atomic numbers that it knows, or None where that is not known.
    """

    # Length of the displacements for its force constants (Angstrom), and their largest relative asymmetry; see
    # `DisplacementPlan`.
    displacement: ClassVar[float] = DISPLACEMENT
    largest_asymmetry: ClassVar[float] = 0.1

    def __init__(self, name: str, elements: frozenset[int] | None) -> None:
        self.name, self.elements = name, elements

    @abstractmethod
    def evaluate(self, crystals: Sequence[Crystal]) -> list[PotentialResult]:
        """Compute energies, forces and stresses.

        Args:
            crystals: periodic crystals of elements that the potential knows.

        Returns:
            A result for each crystal, in order.

        Raises:
            BadCrystalError: the potential fails on a crystal; the message names it.
        """

    def forces(self, crystals: Sequence[Crystal]) -> list[np.ndarray]:
        """Compute the forces on the atoms of each crystal; see `evaluate`. [N, 3] each, float64, eV/Angstrom."""
        return [result.forces for result in self.evaluate(crystals)]

    def check(self, crystal: Crystal) -> None:
        """Check that a crystal is sound, and that the potential knows its elements.

        Raises:
            BadCrystalError: see `check_crystal`.
        """
        check_crystal(crystal, self.elements)

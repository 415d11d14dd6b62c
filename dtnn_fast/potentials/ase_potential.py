# SPDX-License-Identifier: MIT
"""Any calculator of ASE as a potential."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..crystals.crystal import Crystal
from ..errors import BadCrystalError, optional_import
from .potential import Potential, PotentialResult


class AsePotential(Potential):
    """A calculator of ASE, which computes one crystal at a time.

    Args:
        calculator: an ``ase.calculators.calculator.Calculator``.
        name: for messages; by default the name of its class.
        elements: atomic numbers that it knows, or None where that is not known. Crystals on which the calculator raises
            an error are rejected with its message.

    Raises:
        MissingPackageError: ASE is not installed.

    Example:
        >>> AsePotential(MACECalculator("model.pt", default_dtype="float64")).forces(crystals)
    """

    def __init__(self, calculator: Any, name: str = "", elements: Iterable[int] | None = None) -> None:
        super().__init__(
            name or type(calculator).__name__, None if elements is None else frozenset(int(z) for z in elements)
        )
        self.calculator = calculator
        self._atoms_class = optional_import("ase", extra="io", purpose="use a calculator of ASE").Atoms

    def evaluate(self, crystals: Sequence[Crystal]) -> list[PotentialResult]:
        """See `Potential.evaluate`."""
        return [self._evaluate(crystal) for crystal in crystals]

    def _evaluate(self, crystal: Crystal) -> PotentialResult:
        atoms = self._atoms_class(
            crystal.atomic_numbers, crystal.positions, cell=crystal.cell, pbc=True, calculator=self.calculator
        )
        has_stress = "stress" in getattr(self.calculator, "implemented_properties", ())
        try:
            energy, forces = float(atoms.get_potential_energy()), np.array(atoms.get_forces(), dtype=np.float64)
            stress = np.array(atoms.get_stress(voigt=False), dtype=np.float64) if has_stress else None
        except Exception as error:
            raise BadCrystalError(
                f"{crystal.label}: the potential {self.name} fails on it: {type(error).__name__}: {error}"
            ) from error
        return PotentialResult(energy, forces, stress)

# SPDX-License-Identifier: MIT
"""Relaxation of a crystal by a potential and ASE's optimizers, with the symmetry kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..crystals.checks import check_crystal
from ..crystals.crystal import Crystal
from ..crystals.insulators import info_without_labels
from ..errors import BadCrystalError, DTNNError, optional_import
from ..phonons import DisplacementPlan
from ..symmetry import with_operations
from .potential import Potential

_PURPOSE = "relax crystals"


class Relaxed(NamedTuple):
    """A crystal after its relaxation.

    Args:
        crystal: with the positions, the cell and the operations after the relaxation, without labels: they belong to
            the structure before. A known insulator stays known (`crystals.insulators`).
        num_steps: of the optimizer.
        energy_change: of the cell, negative. eV
        volume_ratio: volume after over volume before.
    """

    crystal: Crystal
    num_steps: int
    energy_change: float
    volume_ratio: float


def relax(
    crystal: Crystal,
    potential: Potential,
    *,
    relax_cell: bool = True,
    largest_force: float = 0.005,
    max_steps: int = 300,
    largest_volume_change: float = 0.25,
) -> Relaxed:
    """Relax atoms and cell of a crystal, with its space group kept.

    ASE's BFGS moves the atoms, and the cell by its ``FrechetCellFilter``. Forces and stress are averaged over the
    operations, so that a crystal at a saddle point stays there: imaginary modes that break the symmetry are for its
    force constants to show.

    Args:
        crystal: its operations are searched for where it has none.
        potential: computes energies, forces and, for the cell, stresses.
        relax_cell: whether the cell is relaxed too.
        largest_force: largest force on an atom at the end, and largest component of the stress times the volume over
            the number of atoms, as the filter weighs it. eV/Angstrom
        max_steps: largest number of steps.
        largest_volume_change: largest change of the volume on the way, relative to the volume before.

    Returns:
        The relaxed crystal.

    Raises:
        BadCrystalError: the crystal is not sound or has an element that the potential does not know; the potential
            fails, has no stress, or gives numbers that are not finite; or the relaxation fails: the forces are still
            larger after `max_steps`, the volume changes too much, or atoms come too close.
        MissingPackageError: ASE is not installed.
    """
    potential.check(crystal)
    filters = optional_import("ase.filters", extra="io", purpose=_PURPOSE)
    optimizer_class = optional_import("ase.optimize", extra="io", purpose=_PURPOSE).BFGS
    atoms_class = optional_import("ase", extra="io", purpose=_PURPOSE).Atoms
    plan = DisplacementPlan.of(with_operations([crystal])[0])
    start = plan.crystal
    atoms = atoms_class(start.atomic_numbers, start.positions, cell=start.cell, pbc=True)
    atoms.calc = _symmetric_calculator(plan, potential, relax_cell)
    target = filters.FrechetCellFilter(atoms) if relax_cell else atoms
    first_energy = float(atoms.get_potential_energy())
    optimizer = optimizer_class(target, logfile=None)
    ratio = 1.0
    for _ in optimizer.irun(fmax=largest_force, steps=max_steps):
        ratio = float(atoms.get_volume()) / abs(float(np.linalg.det(start.cell)))
        if not abs(ratio - 1.0) <= largest_volume_change:
            raise BadCrystalError(
                f"{crystal.label}: the relaxation with {potential.name} diverges: after {optimizer.nsteps} steps the "
                f"volume is {ratio:.3g} times that of the given crystal"
            )
    force = float(np.sqrt(np.square(target.get_forces()).sum(1).max()))
    if not force <= largest_force:
        raise BadCrystalError(
            f"{crystal.label}: the relaxation with {potential.name} does not converge: expected forces of at most "
            f"{largest_force:g} eV/Angstrom after at most {max_steps} steps, got {force:.3g}"
        )
    relaxed = replace(
        start,
        positions=np.array(atoms.positions),
        cell=np.array(atoms.cell),
        targets={},
        diagonals={},
        means={},
        born_charges=None,
        force_constants=None,
        info=info_without_labels(crystal),
    )
    check_crystal(relaxed)
    return Relaxed(relaxed, int(optimizer.nsteps), float(atoms.get_potential_energy()) - first_energy, ratio)


def _symmetric_calculator(plan: DisplacementPlan, potential: Potential, needs_stress: bool) -> Any:
    """Make a calculator of ASE whose forces and stresses are averaged over the operations of a crystal."""
    calculators = optional_import("ase.calculators.calculator", extra="io", purpose=_PURPOSE)
    crystal = plan.crystal

    class SymmetricCalculator(calculators.Calculator):  # type: ignore[name-defined]
        implemented_properties = ("energy", "free_energy", "forces", "stress")

        def calculate(
            self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = calculators.all_changes
        ) -> None:
            super().calculate(atoms, properties, system_changes)
            moved = replace(crystal, positions=np.array(self.atoms.positions), cell=np.array(self.atoms.cell))
            try:
                [result] = potential.evaluate([moved])
            except DTNNError:
                raise
            except Exception as error:
                raise BadCrystalError(
                    f"{crystal.label}: the potential {potential.name} fails on it: {type(error).__name__}: {error}"
                ) from error
            stress = np.zeros((3, 3)) if result.stress is None else result.stress
            if needs_stress and result.stress is None:
                raise BadCrystalError(f"{crystal.label}: the potential {potential.name} has no stress to relax a cell")
            if not (np.isfinite(result.energy) and np.isfinite(result.forces).all() and np.isfinite(stress).all()):
                raise BadCrystalError(
                    f"{crystal.label}: the potential {potential.name} gives energies, forces or stresses that are NaN "
                    "or infinite"
                )
            mean = (plan.rotations @ stress @ plan.rotations.transpose(0, 2, 1)).mean(0)
            self.results = {
                "energy": result.energy,
                "free_energy": result.energy,
                "forces": _mean_forces(plan, result.forces),
                "stress": mean[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]],
            }

    return SymmetricCalculator()


def _mean_forces(plan: DisplacementPlan, forces: np.ndarray) -> np.ndarray:
    """Average forces over the operations: f'_j = mean over g of R f_i with g i = j, without the mean over the atoms."""
    turned = np.einsum("gij,aj->gai", plan.rotations, forces)
    sums = np.zeros_like(forces)
    np.add.at(sums, plan.images, turned)
    mean: np.ndarray = sums / len(plan.rotations)
    return mean - mean.mean(0)

# SPDX-License-Identifier: MIT
"""Force constants at q = 0 of many crystals by a potential."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..crystals.crystal import Crystal, Rejected
from ..errors import BadCrystalError, DTNNError
from ..phonons import DisplacementPlan, ForceConstants, primitive_part, with_primitive_part
from ..symmetry import with_operations
from .potential import Potential

# The cost grows with the square of the number of atoms, and with what symmetry is missing.
MAX_ATOMS = 100
# Number of atoms in displaced crystals that the potential gets at once, so that it fills its batches.
_CHUNK_ATOMS = 512


class _Task(NamedTuple):
    """A crystal's plan; for a supercell, that of its primitive cell too, with the atoms of `PrimitivePart`."""

    plan: DisplacementPlan
    primitive: DisplacementPlan | None = None
    atoms: np.ndarray | None = None

    @property
    def plans(self) -> list[DisplacementPlan]:
        return [self.plan] if self.primitive is None else [self.plan, self.primitive]


def gamma_force_constants(
    crystals: Iterable[Crystal],
    potential: Potential,
    displacement: float | None = None,
    max_atoms: int = MAX_ATOMS,
) -> Iterator[ForceConstants | Rejected]:
    """Compute the force constants of crystals at q = 0 by symmetry-distinct central differences.

    Displaced copies of several crystals go to the potential together. A crystal that fails does not end the others. The
    part of a supercell whose displacements have the period of the primitive cell is computed in that cell, so that all
    cells of a crystal have the same ionic tensor; see `phonons.with_primitive_part`.

    Args:
        crystals: their operations are searched for where they have none, and left out where they do not fit.
        potential: computes the forces.
        displacement: length of the displacements; None for that of the potential. Angstrom
        max_atoms: largest number of atoms of a crystal.

    Yields:
        For each crystal, in order, its force constants or why there are none: it is not sound, it has an element that
        the potential does not know, it is too large, or the potential fails on it.

    Raises:
        ValueError: the displacement is not positive.
    """
    length = potential.displacement if displacement is None else displacement
    waiting: list[_Task | Rejected] = []
    num_atoms = 0
    for crystal in crystals:
        waiting.append(_plan(crystal, potential, length, max_atoms))
        if isinstance(waiting[-1], _Task):
            num_atoms += len(waiting[-1].plan.atoms) * crystal.num_atoms
        if num_atoms >= _CHUNK_ATOMS:
            yield from _solve(waiting, potential)
            waiting, num_atoms = [], 0
    yield from _solve(waiting, potential)


def _plan(crystal: Crystal, potential: Potential, displacement: float, max_atoms: int) -> _Task | Rejected:
    try:
        potential.check(crystal)
        if crystal.num_atoms > max_atoms:
            reason = f"expected at most {max_atoms} atoms for force constants, got {crystal.num_atoms}"
            return Rejected(crystal.id, crystal.source, reason)
        plan = _plan_with_operations(with_operations([crystal])[0], displacement)
        part = primitive_part(plan)
        if part is None:
            return _Task(plan)
        return _Task(plan, _plan_with_operations(with_operations([part.crystal])[0], displacement), part.atoms)
    except DTNNError as error:
        return Rejected.from_error(error, crystal.id, crystal.source)


def _plan_with_operations(crystal: Crystal, displacement: float) -> DisplacementPlan:
    try:
        return DisplacementPlan.of(crystal, displacement)
    except BadCrystalError:
        if crystal.operations is None:
            raise
        # Without them all displacements are computed, with the same result.
        return DisplacementPlan.of(replace(crystal, operations=None), displacement)


def _solve(waiting: Sequence[_Task | Rejected], potential: Potential) -> Iterator[ForceConstants | Rejected]:
    plans = [plan for task in waiting if isinstance(task, _Task) for plan in task.plans]
    needed = [plan.crystals() for plan in plans]
    try:
        forces = potential.forces([crystal for group in needed for crystal in group])
        ends = np.cumsum([len(group) for group in needed])
        groups = [forces[end - len(group) : end] for group, end in zip(needed, ends.tolist(), strict=True)]
    except Exception:  # of one crystal: find out which one, and why
        groups = [None] * len(plans)  # type: ignore[list-item]
    results = iter(zip(plans, needed, groups, strict=True))
    for item in waiting:
        if isinstance(item, Rejected):
            yield item
        else:
            yield _joined(item, [_solve_one(*next(results), potential) for _ in item.plans])


def _joined(task: _Task, found: Sequence[ForceConstants | Rejected]) -> ForceConstants | Rejected:
    """Put the part of the primitive cell into the force constants of a supercell."""
    of_cell, of_primitive = found[0], found[-1]
    if task.atoms is None or isinstance(of_cell, Rejected):
        return of_cell
    if isinstance(of_primitive, Rejected):
        return Rejected(task.plan.crystal.id, task.plan.crystal.source, of_primitive.reason)
    return of_cell._replace(
        matrix=with_primitive_part(of_cell.matrix, of_primitive.matrix, task.atoms),
        num_displacements=of_cell.num_displacements + of_primitive.num_displacements,
    )


def _solve_one(
    plan: DisplacementPlan, needed: list[Crystal], forces: list[np.ndarray] | None, potential: Potential
) -> ForceConstants | Rejected:
    crystal = plan.crystal
    try:
        found = potential.forces(needed) if forces is None else forces
        return plan.force_constants(found, potential.largest_asymmetry)
    except Exception as error:
        rejected = Rejected.from_error(error, crystal.id, crystal.source)
        if isinstance(error, DTNNError):
            return rejected
        return Rejected(
            rejected.id, rejected.source, f"the potential {potential.name} fails on it: {type(error).__name__}: {error}"
        )

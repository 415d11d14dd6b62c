# SPDX-License-Identifier: MIT
"""Force constants at q = 0 of many crystals by a potential."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from ..crystals.crystal import Crystal, Rejected
from ..errors import BadCrystalError, DTNNError
from ..phonons import DisplacementPlan, ForceConstants
from ..symmetry import with_operations
from .potential import Potential

# The cost grows with the square of the number of atoms, and with what symmetry is missing.
MAX_ATOMS = 100
# Number of atoms in displaced crystals that the potential gets at once, so that it fills its batches.
_CHUNK_ATOMS = 512


def gamma_force_constants(
    crystals: Iterable[Crystal],
    potential: Potential,
    displacement: float | None = None,
    max_atoms: int = MAX_ATOMS,
) -> Iterator[ForceConstants | Rejected]:
    """Compute the force constants of crystals at q = 0 by symmetry-distinct central differences.

    Displaced copies of several crystals go to the potential together. A crystal that fails does not end the others.

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
    waiting: list[DisplacementPlan | Rejected] = []
    num_atoms = 0
    for crystal in crystals:
        waiting.append(_plan(crystal, potential, length, max_atoms))
        if isinstance(waiting[-1], DisplacementPlan):
            num_atoms += len(waiting[-1].atoms) * crystal.num_atoms
        if num_atoms >= _CHUNK_ATOMS:
            yield from _solve(waiting, potential)
            waiting, num_atoms = [], 0
    yield from _solve(waiting, potential)


def _plan(crystal: Crystal, potential: Potential, displacement: float, max_atoms: int) -> DisplacementPlan | Rejected:
    try:
        potential.check(crystal)
        if crystal.num_atoms > max_atoms:
            reason = f"expected at most {max_atoms} atoms for force constants, got {crystal.num_atoms}"
            return Rejected(crystal.id, crystal.source, reason)
        return _plan_with_operations(with_operations([crystal])[0], displacement)
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


def _solve(waiting: Sequence[DisplacementPlan | Rejected], potential: Potential) -> Iterator[ForceConstants | Rejected]:
    plans = [plan for plan in waiting if isinstance(plan, DisplacementPlan)]
    needed = [plan.crystals() for plan in plans]
    try:
        forces = potential.forces([crystal for group in needed for crystal in group])
        ends = np.cumsum([len(group) for group in needed])
        groups = [forces[end - len(group) : end] for group, end in zip(needed, ends.tolist(), strict=True)]
    except Exception:  # of one crystal: find out which one, and why
        groups = [None] * len(plans)  # type: ignore[list-item]
    results = iter(zip(plans, needed, groups, strict=True))
    for item in waiting:
        yield item if isinstance(item, Rejected) else _solve_one(*next(results), potential)


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

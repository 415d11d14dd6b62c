# SPDX-License-Identifier: MIT
"""Changes that make a new crystal of a real one: element substitution, strain, and rattled atoms."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from ..crystals.crystal import Crystal
from ..crystals.elements import COVALENT_RADII, SUBSTITUTION_GROUPS
from ..crystals.substitution import replace_elements


def substitutes(element: int, allowed: Collection[int]) -> list[int]:
    """List the elements that can replace an element: the allowed ones of its group, in the order of the group.

    Args:
        element: atomic number.
        allowed: atomic numbers that may come in.

    Returns:
        Atomic numbers without `element`; empty where the element has no group.
    """
    group = next((group for group in SUBSTITUTION_GROUPS if element in group), ())
    return [z for z in group if z != element and z in allowed]


def substitute_elements(crystal: Crystal, rng: np.random.Generator, allowed: Collection[int]) -> Crystal | None:
    """Replace at least one element of a crystal by another one of its group.

    Each element is replaced with probability 1/2, on all its sites at once. The cell is scaled by the ratio of the
    summed covalent radii, so that bond lengths fit the new elements.

    Args:
        crystal: the crystal to change.
        rng: draws the elements.
        allowed: atomic numbers that may come in.

    Returns:
        The new crystal, or None where no element has a substitute or two elements would become the same.
    """
    present = np.unique(crystal.atomic_numbers).tolist()
    choices = {z: substitutes(z, allowed) for z in present}
    replaceable = [z for z in present if choices[z]]
    if not replaceable:
        return None
    replaced = [z for z in replaceable if rng.random() < 0.5] or [replaceable[int(rng.integers(len(replaceable)))]]
    new_elements = {z: int(rng.choice(choices[z])) if z in replaced else z for z in present}
    if len(set(new_elements.values())) < len(present):
        return None
    numbers = np.array([new_elements[z] for z in crystal.atomic_numbers.tolist()], dtype=np.int64)
    scale = COVALENT_RADII[numbers].sum() / COVALENT_RADII[crystal.atomic_numbers].sum()
    return replace_elements(crystal, new_elements, scale)


def strain(crystal: Crystal, deviation: float, rng: np.random.Generator) -> Crystal:
    """Deform a crystal by 1 + e with a random symmetric strain e.

    e = (g + g^T) / 2,    g: 3x3 normal random numbers of standard deviation `deviation`
    """
    strains = deviation * rng.normal(size=(3, 3))
    deformation = np.eye(3) + 0.5 * (strains + strains.T)
    return replace(crystal, operations=None, positions=crystal.positions @ deformation, cell=crystal.cell @ deformation)


def rattle(crystal: Crystal, deviation: float, rng: np.random.Generator) -> Crystal:
    """Displace each atom in each direction by a normal random number of standard deviation `deviation` in Angstrom."""
    return replace(
        crystal, operations=None, positions=crystal.positions + deviation * rng.normal(size=crystal.positions.shape)
    )

# SPDX-License-Identifier: MIT
"""Replace the elements of a crystal and scale its cell; all crystals that are made of others go through here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .crystal import Crystal

# Atoms closer than this part of the sum of their covalent radii overlap; the smallest in a bundled crystal is 0.649.
SMALLEST_RATIO = 0.64


def replace_elements(crystal: Crystal, new_elements: Mapping[int, int], scale: float, **fields: Any) -> Crystal:
    """Replace elements on all their sites, and multiply all lengths.

    Args:
        crystal: the crystal to change.
        new_elements: new atomic number by old one; elements that are missing stay.
        scale: factor of lattice vectors and positions.
        fields: further fields of the new crystal, such as `id`.
    """
    numbers = crystal.atomic_numbers.copy()
    for old, new in new_elements.items():
        if new != old:
            numbers[crystal.atomic_numbers == old] = new
    return replace(
        crystal,
        operations=None,
        atomic_numbers=numbers,
        positions=scale * crystal.positions,
        cell=scale * crystal.cell,
        **fields,
    )

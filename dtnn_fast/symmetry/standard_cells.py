# SPDX-License-Identifier: MIT
"""Crystals in their primitive or conventional cells, in the frame of the cell that was given."""

from __future__ import annotations

from dataclasses import replace

from ..crystals.crystal import Crystal, to_cartesian
from .operations import SNAP_TOLERANCE
from .space_group import search_symmetry


def in_standard_cell(crystal: Crystal, primitive: bool = True, symprec: float = SNAP_TOLERANCE) -> Crystal:
    """Put a crystal into its primitive or conventional cell of the International Tables.

    The crystal is not rotated, so that its tensors stay as they are; atoms go to their symmetric positions. Born
    charges, force constants and operations belong to the old atoms and are dropped.

    Args:
        crystal: a crystal that is periodic in all directions.
        primitive: False for the conventional cell.
        symprec: largest distance of an atom from its symmetric position. Angstrom

    Returns:
        The crystal in this cell, or the crystal itself if moyopy finds no symmetry or it has more than `MAX_ATOMS`
        atoms.

    Raises:
        BadCrystalError: positions or cell are not finite, or the cell has no volume.
        MissingPackageError: moyopy is not installed.
    """
    search = search_symmetry(crystal, symprec)
    if search is None:
        return crystal
    found = search.standard_cell(primitive)
    return replace(
        crystal,
        atomic_numbers=found.atomic_numbers,
        positions=to_cartesian(found.fractional, found.basis),
        cell=found.basis,
        born_charges=None,
        force_constants=None,
        operations=None,
    )

# SPDX-License-Identifier: MIT
"""Symmetry of crystals, found by moyopy, and of their tensors.

- ``bounded_search.py``: moyopy's search, in bounded time
- ``space_group.py``: space group, point group, orbits and standard cells, from one search
- ``operations.py``: the symmetry operations in a crystal's own cell, for reduced graphs
- ``crystal_systems.py``: the crystal system of a space group and of a crystal
- ``tensor_symmetry.py``: tensor elements that a point group allows; the IEEE standard frame
- ``prototype.py``: the structure type as a text
- ``standard_cells.py``: primitive and conventional cells
- ``infrared.py``: whether symmetry forbids the ionic part
"""

from .bounded_search import MAX_ATOMS
from .crystal_systems import CRYSTAL_SYSTEMS, UNKNOWN, crystal_system, crystal_system_of_group, known_crystal_system
from .infrared import find_forbidden_ionic_responses, forbids_ionic_response, has_infrared_active_modes
from .operations import SNAP_TOLERANCE, find_operations, operations_of, with_operations
from .prototype import SymmetryFacts, describe_found, describe_symmetry
from .space_group import CrystalSymmetry, FoundSymmetry, find_symmetry, search_symmetry, space_group_number
from .standard_cells import in_standard_cell
from .tensor_symmetry import from_ieee_frame, symmetrised, symmetry_violation

__all__ = [
    "CRYSTAL_SYSTEMS",
    "MAX_ATOMS",
    "SNAP_TOLERANCE",
    "UNKNOWN",
    "CrystalSymmetry",
    "FoundSymmetry",
    "SymmetryFacts",
    "crystal_system",
    "crystal_system_of_group",
    "describe_found",
    "describe_symmetry",
    "find_forbidden_ionic_responses",
    "find_operations",
    "find_symmetry",
    "forbids_ionic_response",
    "from_ieee_frame",
    "has_infrared_active_modes",
    "in_standard_cell",
    "known_crystal_system",
    "operations_of",
    "search_symmetry",
    "space_group_number",
    "symmetrised",
    "symmetry_violation",
    "with_operations",
]

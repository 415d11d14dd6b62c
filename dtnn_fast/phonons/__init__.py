# SPDX-License-Identifier: MIT
"""Lattice dynamics at the zone centre.

- ``ionic_tensor.py``: what Born charges and force constants say about the ionic tensor
- ``force_constants.py``: force constants of any function that computes forces, by central differences
- ``displacements.py``: the displaced crystals that this needs, and what follows from their forces
- ``primitive_part.py``: the part of a supercell's force constants that the primitive cell has
- ``site_directions.py``: directions to displace an atom in, as few as its site symmetry allows
- ``frequencies.py``: frequencies of the optical modes
- ``polar_modes.py``: these modes with their shares of the ionic tensor
"""

from .displacements import DISPLACEMENT, DisplacementPlan, ForceConstants
from .force_constants import find_force_constants, force_constants
from .frequencies import WAVENUMBER_OF_THZ, frequencies
from .ionic_tensor import (
    E2_OVER_EPS0,
    SOFTEST,
    GammaModes,
    compliance,
    gamma_modes,
    ionic_tensor,
    without_translations,
)
from .polar_modes import PolarModes, polar_modes
from .primitive_part import PrimitivePart, primitive_part, with_primitive_part

__all__ = [
    "DISPLACEMENT",
    "E2_OVER_EPS0",
    "SOFTEST",
    "WAVENUMBER_OF_THZ",
    "DisplacementPlan",
    "ForceConstants",
    "GammaModes",
    "PolarModes",
    "PrimitivePart",
    "compliance",
    "find_force_constants",
    "force_constants",
    "frequencies",
    "gamma_modes",
    "ionic_tensor",
    "polar_modes",
    "primitive_part",
    "with_primitive_part",
    "without_translations",
]

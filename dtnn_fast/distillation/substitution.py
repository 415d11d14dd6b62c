# SPDX-License-Identifier: MIT
"""Exchange elements of a crystal for others of the same group, at about the right bond lengths."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from ..crystals.crystal import Crystal
from ..crystals.elements import atomic_number

# Hydrogen forms bonds like no other element and has no group here.
_GROUPS = (
    *("Li Na K Rb Cs", "Be Mg Ca Sr Ba", "Sc Y La", "Ti Zr Hf", "V Nb Ta", "Cr Mo W", "Mn Tc Re", "Fe Ru Os"),
    *("Co Rh Ir", "Ni Pd Pt", "Cu Ag Au", "Zn Cd Hg", "B Al Ga In Tl", "C Si Ge Sn Pb", "N P As Sb Bi"),
    *("O S Se Te", "F Cl Br I", "He Ne Ar Kr Xe", "Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu", "Ac Th Pa U Np Pu"),
)
GROUPS = tuple(tuple(atomic_number(name) for name in group.split()) for group in _GROUPS)

# Covalent radii of the elements 1 to 96 in Angstrom: B. Cordero et al., Dalton Trans. 2008, 2832, Table 2.
_RADII = (
    *(0.31, 0.28, 1.28, 0.96, 0.84, 0.76, 0.71, 0.66, 0.57, 0.58, 1.66, 1.41, 1.21, 1.11, 1.07, 1.05),
    *(1.02, 1.06, 2.03, 1.76, 1.70, 1.60, 1.53, 1.39, 1.39, 1.32, 1.26, 1.24, 1.32, 1.22, 1.22, 1.20),
    *(1.19, 1.20, 1.20, 1.16, 2.20, 1.95, 1.90, 1.75, 1.64, 1.54, 1.47, 1.46, 1.42, 1.39, 1.45, 1.44),
    *(1.42, 1.39, 1.39, 1.38, 1.39, 1.40, 2.44, 2.15, 2.07, 2.04, 2.03, 2.01, 1.99, 1.98, 1.98, 1.96),
    *(1.94, 1.92, 1.92, 1.89, 1.90, 1.87, 1.87, 1.75, 1.70, 1.62, 1.51, 1.44, 1.41, 1.36, 1.36, 1.32),
    *(1.45, 1.46, 1.48, 1.40, 1.50, 1.50, 2.60, 2.21, 2.15, 2.06, 2.00, 1.96, 1.90, 1.87, 1.80, 1.69),
)
# RADII[z] belongs to atomic number z; place 0 is no element. [97], Angstrom.
RADII = np.array([np.nan, *_RADII])


def relatives(element: int, allowed: Collection[int]) -> list[int]:
    """The other elements of an element's group, of those that are allowed, in the order of the group."""
    group = next((group for group in GROUPS if element in group), ())
    return [z for z in group if z != element and z in allowed]


def substituted(crystal: Crystal, rng: np.random.Generator, allowed: Collection[int]) -> Crystal | None:
    """Exchange at least one element of a crystal for another one of its group.

    Each element changes with probability 1/2, on all its sites at once. The cell is scaled by the ratio of the summed
    covalent radii, so that bonds have about the length that they should.

    Args:
        crystal: what to change.
        rng: draws the elements.
        allowed: atomic numbers that may come in.

    Returns:
        The crystal, or None where no element has a relative or two elements would become one.
    """
    present = np.unique(crystal.atomic_numbers).tolist()
    choices = {z: relatives(z, allowed) for z in present}
    changeable = [z for z in present if choices[z]]
    if not changeable:
        return None
    changed = [z for z in changeable if rng.random() < 0.5] or [changeable[int(rng.integers(len(changeable)))]]
    into = {z: int(rng.choice(choices[z])) if z in changed else z for z in present}
    if len(set(into.values())) < len(present):
        return None
    numbers = np.array([into[z] for z in crystal.atomic_numbers.tolist()], dtype=np.int64)
    scale = RADII[numbers].sum() / RADII[crystal.atomic_numbers].sum()
    return replace(crystal, atomic_numbers=numbers, positions=scale * crystal.positions, cell=scale * crystal.cell)

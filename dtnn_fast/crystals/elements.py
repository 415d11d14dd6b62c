# SPDX-License-Identifier: MIT
"""Elements: symbols, formulas, covalent radii, masses, and groups of elements that can replace each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import gcd

import numpy as np

_TABLE = """
    X
    H He
    Li Be B C N O F Ne
    Na Mg Al Si P S Cl Ar
    K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr
    Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe
    Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn
    Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og
"""
# SYMBOLS[z] is the symbol of atomic number z; SYMBOLS[0] is no element.
SYMBOLS = tuple(_TABLE.split())
MAX_ATOMIC_NUMBER = len(SYMBOLS) - 1

_NUMBERS = {name: z for z, name in enumerate(SYMBOLS) if z} | {"D": 1, "T": 1}
# Formulas list metals first, by column of the periodic table, then these nonmetals in this order: SiO2, not O2Si.
_NONMETALS = ("B", "Si", "C", "Sb", "As", "P", "N", "H", "Te", "Se", "S", "At", "I", "Br", "Cl", "O", "F")


def _formula_ranks() -> dict[int, int]:
    """Return the rank of each atomic number in a formula, smallest first."""
    ranks = {1: 1, 2: 18}
    for noble_gas, period_length in ((2, 8), (10, 8), (18, 18), (36, 18), (54, 32), (86, 32)):
        for step in range(1, period_length + 1):
            # Groups 1 and 2, then groups counted from the right end; the f block between them shares group 3.
            ranks[noble_gas + step] = step if step <= 2 else max(3, 18 - (period_length - step))
    ranks.update({_NUMBERS[name]: 18 + place for place, name in enumerate(_NONMETALS, start=1)})
    return ranks


_FORMULA_RANKS = _formula_ranks()


def symbol(atomic_number: int) -> str:
    """Return the symbol of an element.

    Args:
        atomic_number: 1 to 118.

    Raises:
        ValueError: no element has this number.
    """
    if not 1 <= atomic_number <= MAX_ATOMIC_NUMBER:
        raise ValueError(f"symbol: expected `atomic_number` of 1 to {MAX_ATOMIC_NUMBER}, got {atomic_number}")
    return SYMBOLS[atomic_number]


def atomic_number(symbol: str) -> int:
    """Return the atomic number of an element; deuterium (D) and tritium (T) are hydrogen.

    Args:
        symbol: for example ``"Fe"``; the case must be right, because Co is cobalt and CO is two elements.

    Raises:
        ValueError: no element has this symbol.
    """
    try:
        return _NUMBERS[symbol]
    except KeyError:
        raise ValueError(f"{symbol!r} is not the symbol of an element") from None


def formula(atomic_numbers: Iterable[int]) -> str:
    """Return the reduced formula, metals first, for example ``"SrTiO3"``.

    Args:
        atomic_numbers: one for each atom of the cell; an invalid number is written as ``?``.
    """
    counts = Counter(int(z) for z in atomic_numbers)
    divisor = gcd(*counts.values()) or 1
    parts = []
    for z in sorted(counts, key=lambda z: (_FORMULA_RANKS.get(z, 0), z)):
        name = SYMBOLS[z] if 1 <= z <= MAX_ATOMIC_NUMBER else "?"
        count = counts[z] // divisor
        parts.append(name if count == 1 else f"{name}{count}")
    return "".join(parts)


# Covalent radii of the elements 1 to 96 in Angstrom: B. Cordero et al., Dalton Trans. 2008, 2832, Table 2.
_COVALENT_RADII = (
    *(0.31, 0.28, 1.28, 0.96, 0.84, 0.76, 0.71, 0.66, 0.57, 0.58, 1.66, 1.41, 1.21, 1.11, 1.07, 1.05),
    *(1.02, 1.06, 2.03, 1.76, 1.70, 1.60, 1.53, 1.39, 1.39, 1.32, 1.26, 1.24, 1.32, 1.22, 1.22, 1.20),
    *(1.19, 1.20, 1.20, 1.16, 2.20, 1.95, 1.90, 1.75, 1.64, 1.54, 1.47, 1.46, 1.42, 1.39, 1.45, 1.44),
    *(1.42, 1.39, 1.39, 1.38, 1.39, 1.40, 2.44, 2.15, 2.07, 2.04, 2.03, 2.01, 1.99, 1.98, 1.98, 1.96),
    *(1.94, 1.92, 1.92, 1.89, 1.90, 1.87, 1.87, 1.75, 1.70, 1.62, 1.51, 1.44, 1.41, 1.36, 1.36, 1.32),
    *(1.45, 1.46, 1.48, 1.40, 1.50, 1.50, 2.60, 2.21, 2.15, 2.06, 2.00, 1.96, 1.90, 1.87, 1.80, 1.69),
)
# COVALENT_RADII[z] is the radius of atomic number z, NaN for z = 0. [97], float64, Angstrom.
COVALENT_RADII = np.array([np.nan, *_COVALENT_RADII])
_LARGEST_TABULATED = len(COVALENT_RADII) - 1


def covalent_radii(atomic_numbers: np.ndarray) -> np.ndarray:
    """Return the covalent radii of atoms.

    Args:
        atomic_numbers: 1 to 118. [N], int64

    Returns:
        Radii; elements beyond Cm, which are not in the table, get the radius of Cm. [N], float64, Angstrom
    """
    radii: np.ndarray = COVALENT_RADII[np.minimum(atomic_numbers, _LARGEST_TABULATED)]
    return radii


# Standard atomic weights (J. Meija et al., Pure Appl. Chem. 88, 265, 2016); for elements without one, the mass of a
# long-lived isotope. Atomic mass units.
_ATOMIC_MASSES = (
    *(1.008, 4.002602, 6.94, 9.012183, 10.81, 12.011, 14.007, 15.999, 18.9984, 20.1797, 22.98977, 24.305),
    *(26.98154, 28.085, 30.97376, 32.06, 35.45, 39.948, 39.0983, 40.078, 44.95591, 47.867, 50.9415, 51.9961),
    *(54.93804, 55.845, 58.93319, 58.6934, 63.546, 65.38, 69.723, 72.63, 74.92159, 78.971, 79.904, 83.798),
    *(85.4678, 87.62, 88.90584, 91.224, 92.90637, 95.95, 97.90721, 101.07, 102.9055, 106.42, 107.8682, 112.414),
    *(114.818, 118.71, 121.76, 127.6, 126.9045, 131.293, 132.9055, 137.327, 138.9055, 140.116, 140.9077),
    *(144.242, 144.9128, 150.36, 151.964, 157.25, 158.9254, 162.5, 164.9303, 167.259, 168.9342, 173.054),
    *(174.9668, 178.49, 180.9479, 183.84, 186.207, 190.23, 192.217, 195.084, 196.9666, 200.592, 204.38, 207.2),
    *(208.9804, 208.9824, 209.9872, 222.0176, 223.0197, 226.0254, 227.0277, 232.0377, 231.0359, 238.0289),
    *(237.0482, 244.0642, 243.0614, 247.0703, 247.0703, 251.0796, 252.083, 257.0951, 258.0984, 259.101, 262.11),
    *(267.122, 268.126, 271.134, 270.133, 269.1338, 278.156, 281.165, 281.166, 285.177, 286.182, 289.19),
    *(289.194, 293.204, 293.208, 294.214),
)
# ATOMIC_MASSES[z] is the mass of atomic number z, NaN for z = 0. [119], float64, atomic mass units.
ATOMIC_MASSES = np.array([np.nan, *_ATOMIC_MASSES])


def atomic_masses(atomic_numbers: np.ndarray) -> np.ndarray:
    """Return the mean masses of elements.

    Args:
        atomic_numbers: 1 to 118. [N], int64

    Returns:
        [N], float64, atomic mass units

    Raises:
        ValueError: no element has one of the numbers.
    """
    numbers = np.asarray(atomic_numbers)
    outside = numbers[(numbers < 1) | (numbers > MAX_ATOMIC_NUMBER)]
    if outside.size:
        raise ValueError(f"atomic_masses: expected `atomic_numbers` of 1 to {MAX_ATOMIC_NUMBER}, got {outside[0]}")
    masses: np.ndarray = ATOMIC_MASSES[numbers]
    return masses


# Crystals without any of these are metals, with few exceptions such as CsAu.
_NONMETALS_AND_METALLOIDS = "H He B C N O F Ne Si P S Cl Ar Ge As Se Br Kr Sb Te I Xe At Rn"
NONMETALS = frozenset(_NUMBERS[name] for name in _NONMETALS_AND_METALLOIDS.split())
NOBLE_GASES = frozenset(_NUMBERS[name] for name in ("He", "Ne", "Ar", "Kr", "Xe", "Rn"))

# Elements that can replace each other in a crystal: the columns of the periodic table up to Bi, the lanthanides from Ce
# and the actinides up to Pu. Hydrogen has no group, because no other element bonds like it.
_SUBSTITUTION_GROUPS = (
    *("Li Na K Rb Cs", "Be Mg Ca Sr Ba", "Sc Y La", "Ti Zr Hf", "V Nb Ta", "Cr Mo W", "Mn Tc Re", "Fe Ru Os"),
    *("Co Rh Ir", "Ni Pd Pt", "Cu Ag Au", "Zn Cd Hg", "B Al Ga In Tl", "C Si Ge Sn Pb", "N P As Sb Bi"),
    *("O S Se Te", "F Cl Br I", "He Ne Ar Kr Xe", "Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu", "Ac Th Pa U Np Pu"),
)
SUBSTITUTION_GROUPS = tuple(tuple(_NUMBERS[name] for name in group.split()) for group in _SUBSTITUTION_GROUPS)

# SPDX-License-Identifier: MIT
"""Crystals: the container, conversion from other packages, and the checks before a prediction.

- ``crystal.py``: `Crystal`, its dielectric tensors, and `Rejected` for a crystal that cannot be used
- ``operations.py``: `SymmetryOperations`, the space group of a crystal as integers
- ``convert.py``: structures of pymatgen and ASE to `Crystal`
- ``checks.py``: `check_crystal`, which decides whether a crystal can be predicted, and says why not
- ``packed.py``: several crystals in common arrays, for native code
- ``bonding.py``: lone atoms, layers, chains and molecules, and the usual length of bonds
- ``lattice.py``: reduced cells and the closest pair of atoms
- ``structure_index.py``: `StructureIndex`, which finds a crystal among known ones whatever its name and cell
- ``elements.py``: symbols, atomic numbers and formulas
- ``insulators.py``: metals and known insulators
"""

from .checks import check_crystal
from .convert import to_crystal, to_crystals
from .crystal import Crystal, Rejected, write_rejected
from .operations import SymmetryOperations

__all__ = ["Crystal", "Rejected", "SymmetryOperations", "check_crystal", "to_crystal", "to_crystals", "write_rejected"]

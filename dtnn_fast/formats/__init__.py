# SPDX-License-Identifier: MIT
"""File formats of crystals: CIF, POSCAR, extended XYZ, JSON and the packed sets of this package."""

from .find_files import iter_paths
from .reading import kind_of, read_crystals

__all__ = ["iter_paths", "kind_of", "read_crystals"]

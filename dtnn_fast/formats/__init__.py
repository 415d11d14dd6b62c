# SPDX-License-Identifier: MIT
"""File formats of crystals: CIF, POSCAR, extended XYZ, JSON and the packed sets of this package."""

from .reading import iter_paths, kind_of, read_crystals

__all__ = ["iter_paths", "kind_of", "read_crystals"]

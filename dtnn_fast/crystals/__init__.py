# SPDX-License-Identifier: MIT
"""Crystals: the container, its elements, conversion from other packages, and the checks before a prediction."""

from .checks import check_crystal
from .convert import to_crystal, to_crystals
from .crystal import Crystal, Rejected

__all__ = ["Crystal", "Rejected", "check_crystal", "to_crystal", "to_crystals"]

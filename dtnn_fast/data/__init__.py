# SPDX-License-Identifier: MIT
"""Crystals: the container, readers for files, the bundled data sets, checks, cleaning and splits. No torch in here."""

from .bundled import load_labelled, load_screening, load_structures
from .check import check_crystal
from .cleaning import clean
from .convert import to_crystal, to_crystals
from .crystal import Crystal
from .readers import iter_paths, read_crystals
from .rejected import Rejected
from .splits import Split, split

__all__ = [
    "Crystal",
    "Rejected",
    "Split",
    "check_crystal",
    "clean",
    "iter_paths",
    "load_labelled",
    "load_screening",
    "load_structures",
    "read_crystals",
    "split",
    "to_crystal",
    "to_crystals",
]

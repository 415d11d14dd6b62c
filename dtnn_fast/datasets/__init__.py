# SPDX-License-Identifier: MIT
"""Data sets: the bundled crystals, the cleaning rule, the splits, and labelled crystals from public sources."""

from .bundled import load_labelled, load_screening, load_structures
from .cleaning import clean
from .splits import Split, split

__all__ = ["Split", "clean", "load_labelled", "load_screening", "load_structures", "split"]

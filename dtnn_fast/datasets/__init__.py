# SPDX-License-Identifier: MIT
"""Data sets: the bundled crystals, labelled crystals from public sources, the cleaning rules and the splits.

- ``bundled.py``: the crystals that come with the package
- ``fetch.py``: `fetch_set` gets labelled crystals from one of `DATA_SOURCES` (``dtnn-fast data fetch``)
- ``sources/``: one file for each public source, and ``source.py`` with what they share
- ``cleaning.py``: the rules for keeping a labelled crystal, among them the paper's range of tensor elements
- ``textbook_crystals.py``: thirty well-known crystals with values by theory and experiment
- ``splits.py``: the random splits into training, validation and test crystals
"""

from .bundled import load_labelled, load_screening, load_structures
from .cleaning import SelectionRules, clean, select_crystals
from .fetch import DATA_SOURCES, FetchRequest, fetch_set
from .splits import Split, split
from .textbook_crystals import TextbookCrystal, load_textbook

__all__ = [
    "DATA_SOURCES",
    "FetchRequest",
    "SelectionRules",
    "Split",
    "TextbookCrystal",
    "clean",
    "fetch_set",
    "load_labelled",
    "load_screening",
    "load_structures",
    "load_textbook",
    "select_crystals",
    "split",
]

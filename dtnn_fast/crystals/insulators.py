# SPDX-License-Identifier: MIT
"""Metals and insulators, as far as elements and published values tell: metals have no static dielectric tensor."""

from __future__ import annotations

from typing import Any

import numpy as np

from .crystal import Crystal
from .elements import NONMETALS

# Entry of `Crystal.info` that keeps what labels said, where they no longer belong to the structure.
KNOWN_INSULATOR = "known_insulator"
# Names of the band gap in eV in different sources, the preferred one first: ours, the Materials Project and matbench,
# GNoME, Alexandria, WBM, JARVIS and OPTIMADE providers.
BAND_GAP_NAMES = (
    *("band_gap_ev", "band_gap", "bandgap", "Bandgap", "band_gap_ind", "bandgap_pbe", "gap_pbe", "optb88vdw_bandgap"),
    *("_mp_band_gap", "_alexandria_band_gap", "_oqmd_band_gap", "_gnome_bandgap", "gap"),
)


def is_known_insulator(crystal: Crystal) -> bool:
    """Tell whether labels or a band gap of the crystal are published, as of CsAu and some half-Heusler crystals."""
    if crystal.has_label or crystal.info.get(KNOWN_INSULATOR) is True:
        return True
    return any(_is_positive(crystal.info.get(name)) for name in BAND_GAP_NAMES)


def is_metals_only(crystal: Crystal) -> bool:
    """Tell whether the crystal has no nonmetal or metalloid, and is not known to be an insulator."""
    return NONMETALS.isdisjoint(crystal.atomic_numbers.tolist()) and not is_known_insulator(crystal)


def info_without_labels(crystal: Crystal) -> dict[str, Any]:
    """Copy `Crystal.info` for a crystal that loses its labels: a known insulator stays known.

    Args:
        crystal: with its labels.

    Returns:
        Its info, with `KNOWN_INSULATOR` where it is one.
    """
    return {**crystal.info, KNOWN_INSULATOR: True} if is_known_insulator(crystal) else dict(crystal.info)


def _is_positive(value: Any) -> bool:
    # Files give any value for a band gap; NaN stands for an unknown one.
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and bool(value > 0)

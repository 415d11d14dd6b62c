# SPDX-License-Identifier: MIT
"""The cleaning rule for labelled crystals (paper, section on data)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..crystals.crystal import Crystal
from ..crystals.rejected import Rejected

# Larger elements come from nearly unstable phonons or vanishing gaps, strongly negative ones from failed calculations.
TENSOR_RANGE = (-10.0, 100.0)


def clean(
    crystals: Iterable[Crystal], tensor_range: tuple[float, float] = TENSOR_RANGE
) -> tuple[list[Crystal], list[Rejected]]:
    """Keep the crystals whose total tensor lies within the range, element by element, limits included.

    Args:
        crystals: labelled crystals; those without a "total" target are rejected.
        tensor_range: smallest and largest element that is kept.

    Returns:
        The crystals that are kept, in order, and those that are not, with the reason.
    """
    low, high = tensor_range
    kept: list[Crystal] = []
    rejected: list[Rejected] = []
    for crystal in crystals:
        total = crystal.targets.get("total")
        if total is None:
            rejected.append(Rejected(crystal.id, crystal.source, 'no "total" dielectric tensor'))
        elif np.all((total >= low) & (total <= high)):
            kept.append(crystal)
        else:
            reason = (
                f"total dielectric tensor has elements from {total.min():g} to {total.max():g}, "
                f"outside [{low:g}, {high:g}]"
            )
            rejected.append(Rejected(crystal.id, crystal.source, reason))
    return kept, rejected

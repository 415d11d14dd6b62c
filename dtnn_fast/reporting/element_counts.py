# SPDX-License-Identifier: MIT
"""Elements among the first ranks, at their places in the periodic table: Fig. 6c."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..crystals.elements import SYMBOLS

_NOBLE_GASES = (2, 10, 18, 36, 54, 86, 118)
_LARGEST = 103
# Elements in fewer entries are not called enriched.
_FEWEST_ENRICHED, _MOST_ENRICHED = 4, 6


def place_in_table(z: int) -> tuple[int, int]:
    """Return row and column, from 1, in the table of 18 columns; rows 9 and 10 are lanthanides and actinides.

    Args:
        z: atomic number, 1 to 118.
    """
    period = 1 + sum(z > noble for noble in _NOBLE_GASES[:-1])
    before = 0 if period == 1 else _NOBLE_GASES[period - 2]
    step, last = z - before, _NOBLE_GASES[period - 1] - before
    if step <= 2 and not (period == 1 and step == 2):
        return period, step
    # Fifteen f elements stand below, lanthanum and actinium among them.
    if last == 32 and step <= 17:
        return period + 3, step
    return period, 18 - (last - step)


def count_elements(entries: Sequence[Mapping[str, Any]], shares: Mapping[str, float]) -> dict[str, Any]:
    """Count the crystals with each element.

    Args:
        entries: with `elements`, the distinct symbols of each.
        shares: fraction of all crystals of the screening with an element, by symbol.

    Returns:
        `total`; `cells` of the periodic table: symbol, row, column, number of entries, and fraction of all crystals;
        and `enriched`, the symbols that are most frequent compared with all crystals, the most enriched first.
    """
    counts = Counter(symbol for entry in entries for symbol in entry["elements"])
    cells = [
        {
            "symbol": SYMBOLS[z],
            "row": place_in_table(z)[0],
            "column": place_in_table(z)[1],
            "count": counts[SYMBOLS[z]],
            "share": round(shares.get(SYMBOLS[z], 0.0), 5),
        }
        for z in _shown(counts, shares)
    ]
    ratios = {
        symbol: count / len(entries) / shares[symbol]
        for symbol, count in counts.items()
        if count >= _FEWEST_ENRICHED and shares.get(symbol)
    }
    best = sorted((symbol for symbol, ratio in ratios.items() if ratio > 1.5), key=lambda symbol: -ratios[symbol])
    return {"total": len(entries), "cells": cells, "enriched": best[:_MOST_ENRICHED]}


def _shown(*seen: Iterable[str]) -> Iterable[int]:
    """List the elements of a table: up to lawrencium, and heavier ones that occur."""
    occurring = {symbol for symbols in seen for symbol in symbols}
    return (z for z in range(1, len(SYMBOLS)) if z <= _LARGEST or SYMBOLS[z] in occurring)

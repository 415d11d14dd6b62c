# SPDX-License-Identifier: MIT
"""Columns that a source has beside the structures, under names that do not depend on the source."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..crystals.insulators import BAND_GAP_NAMES

# Names of the same number in different sources, the preferred one first: ours, the Materials Project, Alexandria, WBM,
# GNoME, JARVIS, OQMD and matbench.
_ALIASES = {
    "band_gap": BAND_GAP_NAMES,
    "e_above_hull": (
        *("e_above_hull_ev_per_atom", "e_above_hull", "energy_above_hull", "ehull", "hull_distance"),
        *("e_above_hull_mp2020_corrected_ppd_mp", "_alexandria_hull_distance", "_oqmd_stability"),
        *("_gnome_decomposition_energy_per_atom", "Decomposition Energy Per Atom"),
    ),
    "license": ("license", "licence"),
}
# Written by us with the unit in the name; the canonical column replaces them.
_OURS = frozenset({"band_gap_ev", "e_above_hull_ev_per_atom", "licence"})
# Columns of numbers; anything else in a source that has them is no number.
NUMBERS = frozenset({"band_gap", "e_above_hull"})
DESCRIPTIONS = {
    "band_gap": "band gap that the source states",
    "e_above_hull": "energy above the convex hull that the source states",
    "license": "licence of the data that the source states",
}
UNITS = {"band_gap": "eV", "e_above_hull": "eV/atom"}
# Facts about the crystal that have columns of their own.
_OWN_COLUMNS = frozenset({"formula", "space_group", "crystal_system", "prototype", "wyckoff", "duplicate_of"})
# Columns that a source's own names must not hide get this in front.
CLASH_PREFIX = "source_"


def kept_columns(infos: Sequence[Mapping[str, Any]], taken: Collection[str] = ()) -> dict[str, list[Any]]:
    """Collect what is known about crystals beside their structures.

    Args:
        infos: `Crystal.info` of each crystal. [B].
        taken: names of other columns; equal names get ``source_`` in front.

    Returns:
        A list of B values for each column, None where a crystal has no value: ``band_gap`` (eV) and ``e_above_hull``
        (eV/atom) always, and every other entry that is a text, number or truth value. A column has one type: bool,
        int, float, or else text.
    """
    taken = set(taken)
    values: dict[str, list[Any]] = {name: [None] * len(infos) for name in NUMBERS}
    for row, info in enumerate(infos):
        for name, value in _columns_of(info).items():
            column = CLASH_PREFIX + name if name in taken else name
            values.setdefault(column, [None] * len(infos))[row] = value
    ordered = [*sorted(NUMBERS), *sorted(values.keys() - NUMBERS)]
    return {name: _of_one_type(values[name], name in NUMBERS) for name in ordered}


def _columns_of(info: Mapping[str, Any]) -> dict[str, Any]:
    columns = {
        name: value
        for name, value in info.items()
        if name not in _OWN_COLUMNS and name not in _OURS and isinstance(value, str | bool | int | float)
    }
    for canonical, aliases in _ALIASES.items():
        found = next((info[alias] for alias in aliases if isinstance(info.get(alias), str | int | float)), None)
        columns.pop(canonical, None)
        if found is not None:
            columns[canonical] = found
    return columns


def _of_one_type(values: list[Any], is_number: bool) -> list[Any]:
    given = [value for value in values if value is not None]
    if is_number:
        return [_number(value) for value in values]
    if all(isinstance(value, bool) for value in given):
        return values
    if not any(isinstance(value, bool) for value in given):
        # Larger integers, such as some identifiers, do not fit into 64 bits.
        if all(isinstance(value, int) and abs(value) < 2**63 for value in given):
            return values
        if all(isinstance(value, int | float) for value in given):
            return [None if value is None else _number(value) for value in values]
    return [None if value is None else str(value) for value in values]


def _number(value: Any) -> float | None:
    """Convert to a finite number; None where it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) < float("inf") else None

# SPDX-License-Identifier: MIT
"""Columns that a source has beside the structures, under names that do not depend on the source."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

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
# Names that parts of other models or a ranking have: of sources, other meanings.
_RESERVED = re.compile(
    r"(electronic|ionic|total)_(xx|yy|zz|yz|xz|xy|mean|e[123]|anisotropy|(tensor|mean)_error|published_mean)"
    r"|refractive_index|training_distance|atomic_numbers|positions|born_charges|duplicate_of"
    r"|nsites|elements|figure_of_merit|rank|rank_value|rank_group|place|best|why_not_ranked"
)
# Columns that a source's own names must not hide get this in front.
CLASH_PREFIX = "source_"


def kept_columns(infos: Sequence[Mapping[str, Any]], taken: Collection[str] = ()) -> dict[str, list[Any]]:
    """Collect what is known about crystals beside their structures.

    Args:
        infos: `Crystal.info` of each crystal. [B].
        taken: names of other columns. Names that equal one of them, or one that a ranking adds, get ``source_`` in
            front, and a number behind where that is taken too. Capitals do not tell names apart, as in SQL.

    Returns:
        A list of B values for each column, None where a crystal has no value: ``band_gap`` (eV) and ``e_above_hull``
        (eV/atom) always, and every other entry that is a text, number or truth value. A column has one type: bool,
        int, float, or else text.
    """
    rows = [_columns_of(info) for info in infos]
    names = _unique_names({name for row in rows for name in row}, taken)
    values: dict[str, list[Any]] = {name: [None] * len(rows) for name in NUMBERS}
    for number, row in enumerate(rows):
        for name, value in row.items():
            values.setdefault(names[name], [None] * len(rows))[number] = value
    ordered = [*sorted(NUMBERS), *sorted(values.keys() - NUMBERS)]
    return {name: _of_one_type(values[name], name in NUMBERS) for name in ordered}


def _unique_names(names: Collection[str], taken: Collection[str]) -> dict[str, str]:
    """Choose the column of each name."""
    used = {name.lower() for name in (*taken, *NUMBERS)}
    columns = {name: name for name in names if name in NUMBERS}
    clashing = {name for name in names if not name or name.lower() in used or _RESERVED.fullmatch(name.lower())}
    # Names that clash with none of ours go first, and stay as they are where they can.
    for name in sorted(set(names) - columns.keys(), key=lambda name: (name in clashing, name)):
        column, number = _printable(name), 1
        if name in clashing or column.lower() in used:
            column = CLASH_PREFIX + column
        base = column
        while column.lower() in used:
            number += 1
            column = f"{base}_{number}"
        used.add(column.lower())
        columns[name] = column
    return columns


def _columns_of(info: Mapping[str, Any]) -> dict[str, Any]:
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in info.items()}
    columns = {
        name: _printable(value) if isinstance(value, str) else value
        for name, value in plain.items()
        if name not in _OWN_COLUMNS and name not in _OURS and isinstance(value, str | bool | int | float)
    }
    for canonical, aliases in _ALIASES.items():
        read = _number if canonical in NUMBERS else _text
        found = next((value for alias in aliases if (value := read(plain.get(alias))) is not None), None)
        columns.pop(canonical, None)
        if found is not None:
            columns[canonical] = found
    return columns


def _printable(text: str) -> str:
    """Replace halves of characters, which JSON allows and UTF-8 does not."""
    return text.encode("utf-8", "backslashreplace").decode()


def _text(value: Any) -> str | None:
    return _printable(str(value)) if isinstance(value, str | int | float) else None


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
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) < float("inf") else None

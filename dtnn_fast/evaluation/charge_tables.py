# SPDX-License-Identifier: MIT
"""Tables of the errors of Born effective charges by element, from the results of runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..crystals.elements import SYMBOLS
from .error_table import Cell, ErrorTable

_NUMBERS = ("crystals", "atoms", "mae", "mean_size")


def check_charge_errors(results: Mapping[str, Any]) -> None:
    """Check the entry "born_charges" of results.json; see `ChargePredictions.summary`.

    Raises:
        ValueError: it is there, and of another form.
    """
    entry = results.get("born_charges", {})
    if not isinstance(entry, dict):
        raise ValueError("expected `born_charges` to be an object")
    for part, errors in entry.items():
        by_element = errors.get("by_element") if isinstance(errors, dict) else None
        if not isinstance(by_element, dict) or not all(map(_is_row, (errors, *by_element.values()))):
            raise ValueError(
                f"expected `born_charges.{part}` to have the numbers {', '.join(_NUMBERS)}, and `by_element` with "
                "these for each element"
            )
        unknown = set(by_element) - set(SYMBOLS[1:])
        if unknown:
            raise ValueError(f"expected symbols of elements in `born_charges.{part}`, got {sorted(unknown)[0]!r}")


def _is_row(errors: Any) -> bool:
    numbers = [errors.get(name) for name in _NUMBERS] if isinstance(errors, dict) else [None]
    return all(isinstance(number, int | float) for number in numbers) and errors["atoms"] > 0


def charge_table(name: str, results: Sequence[Mapping[str, Any]]) -> ErrorTable | None:
    """Make the table of the errors on test crystals by element, for a model trained on one split or several.

    Args:
        name: name of the model.
        results: content of results.json of each run. Atoms of all runs count the same.

    Returns:
        None where no run has Born charges of test crystals.
    """
    tested = [entry["test"] for result in results if "test" in (entry := result.get("born_charges", {}))]
    if not tested:
        return None
    elements = {element for errors in tested for element in errors["by_element"]}
    ordered = [symbol for symbol in SYMBOLS[1:] if symbol in elements]
    header = ["element", "atoms", "mean absolute error, e", "mean size, e", "error / size"]
    table = ErrorTable(f"{name}: errors of Born effective charges, test crystals", header)
    table.rows.append(_row("all", tested))
    for element in ordered:
        table.rows.append(_row(element, (e["by_element"][element] for e in tested if element in e["by_element"])))
    crystals = sum(errors["crystals"] for errors in tested)
    splits = f" of {len(tested)} splits" if len(tested) > 1 else ""
    table.notes = [
        f"mean over the nine components and the atoms of {crystals:,} labelled crystals{splits}, none of which the "
        "model learned from; the size is the mean absolute component of the labels"
    ]
    return table


def _row(name: str, parts: Iterable[Mapping[str, Any]]) -> list[Cell]:
    parts = list(parts)
    atoms = sum(part["atoms"] for part in parts)
    error, size = (sum(part["atoms"] * part[number] for part in parts) / atoms for number in ("mae", "mean_size"))
    ratio = f"{error / size:.2f}" if size > 0 else "-"
    return [Cell(name), Cell(f"{atoms:,}"), Cell(f"{error:.3f}"), Cell(f"{size:.3f}"), Cell(ratio)]

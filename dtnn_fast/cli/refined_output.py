# SPDX-License-Identifier: MIT
"""Refined crystals as a table, as JSON and as CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from .console import stdout

if TYPE_CHECKING:
    from ..refinement.refiner import Refinement

_COLUMNS = (
    *("id", "formula", "num_atoms", "electronic_mean", "ionic_direct_mean", "ionic_lattice_mean", "ionic_mean"),
    *("ionic_mean_error", "total_mean", "total_mean_error", "lowest_frequency_thz", "softest_polar_stiffness"),
    *("unstable", "nearly_ferroelectric", "remarks", "warnings", "warning_codes"),
)


def _numbers(one: Refinement) -> dict[str, Any]:
    """The numbers of a crystal, by `_COLUMNS`."""
    from ..model.predictor import mean_permittivity

    def mean(tensor: Any) -> float:
        return float(mean_permittivity(tensor))

    return {
        "id": one.crystal.id,
        "formula": one.crystal.formula,
        "num_atoms": one.crystal.num_atoms,
        "electronic_mean": mean(one.electronic),
        "ionic_direct_mean": mean(one.direct),
        "ionic_lattice_mean": mean(one.lattice),
        "ionic_mean": mean(one.ionic),
        "ionic_mean_error": one.ionic_mean_error,
        "total_mean": mean(one.total),
        "total_mean_error": one.total_mean_error,
        "lowest_frequency_thz": float(one.modes[0]) if len(one.modes) else None,
        "softest_polar_stiffness": one.softest[1] if one.softest[1] < float("inf") else None,
        "unstable": one.is_unstable,
        "nearly_ferroelectric": one.is_nearly_ferroelectric,
        "remarks": one.remarks,
        "warnings": [warning.text for warning in one.warnings],
        "warning_codes": list(dict.fromkeys(str(warning.code) for warning in one.warnings)),
    }


def refinement_to_json(one: Refinement) -> dict[str, Any]:
    """Everything that is known of a refined crystal, as plain values."""
    return {
        **_numbers(one),
        "source": one.crystal.source,
        "lattice_vectors": one.crystal.cell.tolist(),
        "electronic": one.electronic.tolist(),
        "ionic_direct": one.direct.tolist(),
        "ionic_lattice": one.lattice.tolist(),
        "ionic": one.ionic.tolist(),
        "ionic_error": one.ionic_error,
        "total": one.total.tolist(),
        "frequencies_thz": one.modes.tolist(),
        "born_charges": one.born_charges.tolist(),
    }


def write_refinements(path: Path, content: dict[str, Any], refined: Sequence[Refinement]) -> None:
    """Write refined crystals.

    Args:
        path: file that ends in .json, or in .csv for the numbers of the table.
        content: what the JSON has.
        refined: the crystals.
    """
    if path.suffix == ".json":
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for one in refined:
            numbers = _numbers(one)
            numbers |= {name: "; ".join(numbers[name]) for name in ("remarks", "warnings")}
            numbers["warning_codes"] = " ".join(numbers["warning_codes"])
            writer.writerow([_cell(numbers[name]) for name in _COLUMNS])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def print_refinements(refined: Sequence[Refinement], is_joined: bool) -> None:
    """Print the table, and below it what speaks against its numbers.

    Args:
        refined: the crystals.
        is_joined: whether the tensors are joined with the direct prediction, and have error bars.
    """
    table = Table(title="Relative permittivity (means, a third of the trace)", box=None)
    table.add_column("id", overflow="fold")
    table.add_column("formula")
    for name in ("electronic", "ionic direct", "ionic by lattice", "ionic refined", "total", "lowest mode, THz"):
        table.add_column(name, justify="right", style="bold" if name == "total" else "")
    for one in refined:
        numbers = _numbers(one)
        bar, total_bar = (
            "" if error is None else f" ± {error:.2f}" for error in (one.ionic_mean_error, one.total_mean_error)
        )
        lowest = numbers["lowest_frequency_thz"]
        table.add_row(
            one.crystal.id + (" !" if one.remarks or one.warnings else ""),
            one.crystal.formula,
            f"{numbers['electronic_mean']:.2f}",
            f"{numbers['ionic_direct_mean']:.2f}",
            f"{numbers['ionic_lattice_mean']:.2f}",
            f"{numbers['ionic_mean']:.2f}{bar}",
            f"{numbers['total_mean']:.2f}{total_bar}",
            "-" if lowest is None else f"{lowest:.2f}",
        )
    stdout().print(table)
    if not is_joined:
        stdout().print("The refined ionic tensor is that of lattice dynamics alone, without error bars.")
    for one in refined:
        for text in (*one.remarks, *(f"warning: {warning.text}" for warning in one.warnings)):
            stdout().print(f"! {one.crystal.id}: {text}")

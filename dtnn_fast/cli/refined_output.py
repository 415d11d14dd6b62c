# SPDX-License-Identifier: MIT
"""Refined crystals as a table and as files of JSON and CSV."""

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


def write_refinements(path: Path, content: dict[str, Any], refined: Sequence[Refinement]) -> None:
    """Write refined crystals.

    Args:
        path: file that ends in .json, or in .csv for the numbers of the table.
        content: what the JSON has.
        refined: the crystals.
    """
    from ..refinement.refinement_json import refinement_numbers

    if path.suffix == ".json":
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for one in refined:
            numbers = refinement_numbers(one)
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
    from ..refinement.refinement_json import refinement_numbers

    table = Table(title="Relative permittivity (means, a third of the trace)", box=None)
    table.add_column("id", overflow="fold")
    table.add_column("formula")
    for name in ("electronic", "ionic direct", "ionic by lattice", "ionic refined", "total", "lowest mode, THz"):
        table.add_column(name, justify="right", style="bold" if name == "total" else "")
    for one in refined:
        numbers = refinement_numbers(one)
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

# SPDX-License-Identifier: MIT
"""Predicted tensors of many crystals as columns, with the numbers that are ranked by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..crystals.crystal import Crystal
from ..symmetry import known_crystal_system

# The six unique elements of a symmetric tensor, in the order of docs/conventions.md.
ELEMENTS = {"xx": (0, 0), "yy": (1, 1), "zz": (2, 2), "yz": (1, 2), "xz": (0, 2), "xy": (0, 1)}
PRINCIPAL = ("e1", "e2", "e3")
DESCRIPTIONS = {
    **{name: f"element {name} of the relative permittivity, in the Cartesian frame of the cell" for name in ELEMENTS},
    "mean": "mean relative permittivity, a third of the trace",
    "e1": "smallest principal value (eigenvalue)",
    "e2": "middle principal value",
    "e3": "largest principal value",
    "anisotropy": "largest minus smallest principal value, e3 - e1",
}
# The column of a model with error bars, and what it is.
ERROR = "error"
ERROR_DESCRIPTION = "error bar: nine of ten crystals have the mean absolute error of their six elements below it"


@dataclass(frozen=True)
class Predictions:
    """Crystals with their predicted tensors, one entry each.

    Args:
        ids: names.
        formulas: reduced formulas.
        sources: files or data sets.
        systems: crystal systems, None where unknown.
        num_atoms: atoms in the cell. [B], int64.
        tensors: relative permittivity by target. [B, 3, 3] each, float64.
        known: published tensors by target, NaN where there are none. [B, 3, 3] each, float64.
        errors: error bars by target, of a model that has them; see `DTNN.predict_with_errors`. [B] each, float64.
    """

    ids: list[str]
    formulas: list[str]
    sources: list[str]
    systems: list[str | None]
    num_atoms: np.ndarray
    tensors: dict[str, np.ndarray]
    known: dict[str, np.ndarray]
    errors: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(
        cls,
        crystals: Sequence[Crystal],
        tensors: Mapping[str, np.ndarray],
        errors: Mapping[str, np.ndarray] | None = None,
        find_systems: bool = True,
    ) -> Predictions:
        """Put crystals, their tensors and error bars together.

        Args:
            crystals: the crystals. B of them
            tensors: relative permittivity by target. [B, 3, 3] each, float64
            errors: error bars by target. [B] each, float64
            find_systems: find crystal systems that are not in `Crystal.info`, up to about a second for a large cell.
        """
        unknown = np.full((3, 3), np.nan)
        return cls(
            [crystal.id for crystal in crystals],
            [crystal.formula for crystal in crystals],
            [crystal.source for crystal in crystals],
            [known_crystal_system(crystal, search=find_systems) for crystal in crystals],
            np.array([crystal.num_atoms for crystal in crystals], dtype=np.int64),
            dict(tensors),
            {
                target: np.array([c.targets.get(target, unknown) for c in crystals]).reshape(-1, 3, 3)
                for target in tensors
            },
            dict(errors or {}),
        )

    @classmethod
    def join(cls, parts: Sequence[Predictions]) -> Predictions:
        """Put several one after the other; at least one."""
        return cls(
            [value for part in parts for value in part.ids],
            [value for part in parts for value in part.formulas],
            [value for part in parts for value in part.sources],
            [value for part in parts for value in part.systems],
            np.concatenate([part.num_atoms for part in parts]),
            {target: np.concatenate([part.tensors[target] for part in parts]) for target in parts[0].tensors},
            {target: np.concatenate([part.known[target] for part in parts]) for target in parts[0].known},
            {target: np.concatenate([part.errors[target] for part in parts]) for target in parts[0].errors},
        )

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the predicted tensors."""
        return tuple(self.tensors)

    def columns(self) -> dict[str, Any]:
        """Everything as columns of a table: names, and for each target the numbers of `tensor_columns`."""
        columns: dict[str, Any] = {
            "id": self.ids,
            "formula": self.formulas,
            "source": self.sources,
            "num_atoms": self.num_atoms,
            "crystal_system": self.systems,
        }
        for target, tensors in self.tensors.items():
            columns |= {f"{target}_{name}": values for name, values in tensor_columns(tensors).items()}
            if target in self.errors:
                columns[f"{target}_{ERROR}"] = self.errors[target]
        return columns


def tensor_columns(tensors: np.ndarray) -> dict[str, np.ndarray]:
    """The numbers that are listed of symmetric tensors; `DESCRIPTIONS` says what each is.

    Args:
        tensors: [B, 3, 3], float64.

    Returns:
        [B] for each name of `DESCRIPTIONS`.
    """
    principal = np.linalg.eigvalsh(tensors)
    columns = {name: tensors[:, row, column] for name, (row, column) in ELEMENTS.items()}
    columns["mean"] = np.trace(tensors, axis1=1, axis2=2) / 3.0
    columns |= {name: principal[:, place] for place, name in enumerate(PRINCIPAL)}
    columns["anisotropy"] = principal[:, 2] - principal[:, 0]
    return columns

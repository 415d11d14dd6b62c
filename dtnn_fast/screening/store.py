# SPDX-License-Identifier: MIT
"""Table of predicted crystals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from ..crystals.crystal import Crystal
from ..crystals.elements import SYMBOLS
from ..crystals.insulators import is_known_insulator
from ..datasets.bundled import labelled_index
from ..model.predictor import mean_permittivity
from ..symmetry import known_crystal_system
from .crystal_warnings import CrystalWarning, WarningCode, prediction_warnings
from .kept_columns import kept_columns

# The six unique elements of a symmetric tensor, in the order of docs/conventions.md.
TENSOR_ELEMENTS = {"xx": (0, 0), "yy": (1, 1), "zz": (2, 2), "yz": (1, 2), "xz": (0, 2), "xy": (0, 1)}
PRINCIPAL_VALUES = ("e1", "e2", "e3")
DESCRIPTIONS = {
    **{
        name: f"element {name} of the relative permittivity, in the Cartesian frame of the cell"
        for name in TENSOR_ELEMENTS
    },
    "mean": "mean relative permittivity, a third of the trace",
    "e1": "smallest principal value (eigenvalue)",
    "e2": "middle principal value",
    "e3": "largest principal value",
    "anisotropy": "largest minus smallest principal value, e3 - e1",
}
# Columns of the error bars, which an ensemble gives.
TENSOR_ERROR, MEAN_ERROR = "tensor_error", "mean_error"
# Column of the mean of the tensor that the source states.
PUBLISHED_MEAN = "published_mean"
ERROR_DESCRIPTIONS = {
    TENSOR_ERROR: "error bar of the tensor: the mean absolute error of its six elements is below it for nine of ten "
    "crystals that the model was calibrated on",
    MEAN_ERROR: "error bar of the mean: its absolute error is below it for nine of ten crystals that the model was "
    "calibrated on",
}


class PredictedAtoms(NamedTuple):
    """Atoms of the crystals with their predicted Born charges, in the order of the files; one entry per crystal.

    Args:
        atomic_numbers: [N] each, int64.
        positions: Cartesian. [N, 3] each, float64, Angstrom.
        born_charges: Z[atom, field, displacement]. [N, 3, 3] each, float64, e.
    """

    atomic_numbers: list[np.ndarray]
    positions: list[np.ndarray]
    born_charges: list[np.ndarray]

    @classmethod
    def of(cls, crystals: Sequence[Crystal], born_charges: Sequence[np.ndarray]) -> PredictedAtoms:
        """List the atoms of crystals with their charges."""
        numbers = [crystal.atomic_numbers for crystal in crystals]
        return cls(numbers, [crystal.positions for crystal in crystals], list(born_charges))

    @classmethod
    def join(cls, parts: Sequence[PredictedAtoms]) -> PredictedAtoms:
        """Concatenate the lists."""
        return cls(*(list(chain.from_iterable(lists)) for lists in zip(*parts, strict=True)))


@dataclass(frozen=True)
class ScreenedCrystals:
    """Crystals with their predicted tensors; all fields have one entry per crystal.

    Args:
        ids: names.
        formulas: reduced formulas.
        sources: files or data sets.
        systems: crystal systems, None where unknown.
        num_atoms: atoms in the cell. [B], int64.
        tensors: predicted relative permittivity by target. [B, 3, 3] each, float64.
        known: published tensors by target, NaN where there is none. [B, 3, 3] each, float64.
        lattice_vectors: cells, rows are lattice vectors. [B, 3, 3], float64, Angstrom.
        labelled: whether the crystals are bundled crystals with tensors from DFPT, by structure. [B], bool.
        errors: error bars of the tensors by target, if the model has them; see `DTNN.predict_with_errors`. [B] each,
            float64.
        mean_errors: error bars of the means by target, if the model has them; see `DTNN.predict_mean_with_errors`. [B]
            each, float64.
        structure_warnings: warnings about the structures; see `warnings`. [B].
        crystals: the crystals themselves, for `columns`. [B].
        training_distances: see `TrainingDistances.relative`; None for a model without training set. [B], float64.
        atoms: their atoms with Born charges; None if these were not requested.
    """

    ids: list[str]
    formulas: list[str]
    sources: list[str]
    systems: list[str | None]
    num_atoms: np.ndarray
    tensors: dict[str, np.ndarray]
    known: dict[str, np.ndarray]
    lattice_vectors: np.ndarray
    labelled: np.ndarray
    errors: dict[str, np.ndarray] = field(default_factory=dict)
    mean_errors: dict[str, np.ndarray] = field(default_factory=dict)
    structure_warnings: list[list[CrystalWarning]] = field(default_factory=list)
    crystals: list[Crystal] = field(default_factory=list)
    training_distances: np.ndarray | None = None
    atoms: PredictedAtoms | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(
        cls,
        crystals: Sequence[Crystal],
        tensors: Mapping[str, np.ndarray],
        errors: Mapping[str, np.ndarray] | None = None,
        mean_errors: Mapping[str, np.ndarray] | None = None,
        find_systems: bool = True,
    ) -> ScreenedCrystals:
        """Make the table of crystals, their predicted tensors and error bars.

        Args:
            crystals: the crystals.
            tensors: predicted tensors by target. [B, 3, 3] each.
            errors: error bars of the tensors by target. [B] each.
            mean_errors: error bars of the means by target. [B] each.
            find_systems: search for crystal systems that the crystals do not state; else they are unknown.
        """
        index = labelled_index()
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
            np.array([crystal.cell for crystal in crystals]).reshape(-1, 3, 3),
            np.array([index.find(crystal) is not None for crystal in crystals], dtype=bool),
            dict(errors or {}),
            dict(mean_errors or {}),
            crystals=list(crystals),
        )

    @classmethod
    def join(cls, tables: Sequence[ScreenedCrystals]) -> ScreenedCrystals:
        """Concatenate tables, at least one."""
        first = tables[0]
        return cls(
            [id for table in tables for id in table.ids],
            [formula for table in tables for formula in table.formulas],
            [source for table in tables for source in table.sources],
            [system for table in tables for system in table.systems],
            np.concatenate([table.num_atoms for table in tables]),
            {target: np.concatenate([table.tensors[target] for table in tables]) for target in first.tensors},
            {target: np.concatenate([table.known[target] for table in tables]) for target in first.known},
            np.concatenate([table.lattice_vectors for table in tables]),
            np.concatenate([table.labelled for table in tables]),
            {target: np.concatenate([table.errors[target] for table in tables]) for target in first.errors},
            {target: np.concatenate([table.mean_errors[target] for table in tables]) for target in first.mean_errors},
            [warnings for table in tables for warnings in table.structure_warnings],
            [crystal for table in tables for crystal in table.crystals],
            _join_distances([table.training_distances for table in tables if len(table)]),
            None if first.atoms is None else PredictedAtoms.join([table.atoms for table in tables if table.atoms]),
        )

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the predicted tensors."""
        return tuple(self.tensors)

    @property
    def error_bars(self) -> dict[str, dict[str, np.ndarray]]:
        """Error bars that the model has, by name of the column and target; `ERROR_DESCRIPTIONS` explains each."""
        error_bars = {TENSOR_ERROR: self.errors, MEAN_ERROR: self.mean_errors}
        return {name: by_target for name, by_target in error_bars.items() if by_target}

    def warnings(self, ranked_target: str | None = None) -> list[list[CrystalWarning]]:
        """Return the warnings about each crystal and its prediction.

        Args:
            ranked_target: a target whose error bar is judged in any case; see `prediction_warnings`.
        """
        about_predictions = prediction_warnings(
            *(self.tensors, self.mean_errors or self.errors, self.systems, ranked_target),
            [is_known_insulator(crystal) for crystal in self.crystals] or None,
        )
        about_structures = self.structure_warnings or [[] for _ in self.ids]
        return [[*a, *b] for a, b in zip(about_structures, about_predictions, strict=True)]

    def columns(self, ranked_target: str | None = None) -> dict[str, Any]:
        """Return the columns that are written: names, structures, warnings, and for each target `tensor_columns`.

        Args:
            ranked_target: see `warnings`.
        """
        warnings = self.warnings(ranked_target)
        columns: dict[str, Any] = {
            "id": self.ids,
            "formula": self.formulas,
            "source": self.sources,
            "num_atoms": self.num_atoms,
            "crystal_system": self.systems,
            "space_group": [crystal.info.get("space_group") for crystal in self.crystals],
            "prototype": [crystal.info.get("prototype") for crystal in self.crystals],
            "duplicate_of": [crystal.info.get("duplicate_of") for crystal in self.crystals],
            "lattice_vectors": self.lattice_vectors,
            "species_at_sites": [[SYMBOLS[z] for z in crystal.atomic_numbers.tolist()] for crystal in self.crystals],
            "cartesian_site_positions": [crystal.positions for crystal in self.crystals],
            "labelled": self.labelled,
            "warnings": ["; ".join(warning.text for warning in of_crystal) for of_crystal in warnings],
            "warning_codes": [
                " ".join(dict.fromkeys(warning.code for warning in of_crystal)) for of_crystal in warnings
            ],
        }
        if self.atoms is not None:
            columns |= self.atoms._asdict()
        for target, tensors in self.tensors.items():
            columns |= {f"{target}_{name}": values for name, values in tensor_columns(tensors).items()}
            columns |= {f"{target}_{name}": by_target[target] for name, by_target in self.error_bars.items()}
            published = mean_permittivity(self.known[target])
            if np.isfinite(published).any():
                columns[f"{target}_{PUBLISHED_MEAN}"] = published
        if "electronic" in self.tensors:
            # Below 1 only where the prediction is wrong.
            columns["refractive_index"] = np.sqrt(np.maximum(columns["electronic_mean"], 0.0))
        if self.training_distances is not None:
            columns["training_distance"] = self.training_distances
        return columns | kept_columns([crystal.info for crystal in self.crystals], columns)


def _join_distances(distances: Sequence[np.ndarray | None]) -> np.ndarray | None:
    known = [values for values in distances if values is not None]
    return np.concatenate(known) if known and len(known) == len(distances) else None


def tensor_columns(tensors: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the numbers that are listed for symmetric tensors; `DESCRIPTIONS` explains each.

    Args:
        tensors: [B, 3, 3], float64.

    Returns:
        [B] for each name of `DESCRIPTIONS`.
    """
    principal = np.linalg.eigvalsh(tensors)
    columns = {name: tensors[:, row, column] for name, (row, column) in TENSOR_ELEMENTS.items()}
    columns["mean"] = mean_permittivity(tensors)
    columns |= {name: principal[:, place] for place, name in enumerate(PRINCIPAL_VALUES)}
    columns["anisotropy"] = principal[:, 2] - principal[:, 0]
    return columns


def count_warnings(columns: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Count the crystals with each warning.

    Args:
        columns: of `ScreenedCrystals.columns`.

    Returns:
        Number of crystals by `WarningCode`, without codes that no crystal has.
    """
    listed = [set(codes.split()) for codes in columns["warning_codes"]]
    counts = {str(code): sum(code in codes for codes in listed) for code in WarningCode}
    return {code: count for code, count in counts.items() if count}

# SPDX-License-Identifier: MIT
"""Crystals with predicted tensors: from a screening's folder, by a model, or from the folder of a calculation."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..crystals.crystal import Crystal, Rejected
from ..crystals.elements import SYMBOLS
from ..errors import BadCrystalError, BadFileError, optional_import
from ..files import read_json_object, replacing
from ..formats.json_structures import read_document
from ..model.predictor import Predictor

TARGETS = ("electronic", "ionic", "total")
PLAN_FILE = "dfpt.json"
FORMAT = "dtnn_fast dfpt 1"
_ELEMENTS = (("xx", 0, 0), ("yy", 1, 1), ("zz", 2, 2), ("yz", 1, 2), ("xz", 0, 2), ("xy", 0, 1))


@dataclass(frozen=True)
class PredictedCrystal:
    """A crystal with its predicted tensors.

    Args:
        crystal: the crystal as it was predicted.
        tensors: predicted relative permittivity by target, in the frame of the crystal's cell. [3, 3] each, float64
        mean_errors: error bar of a third of the trace, by target, where it is known.
    """

    crystal: Crystal
    tensors: dict[str, np.ndarray]
    mean_errors: dict[str, float]


def read_screening(folder: Path, ids: Sequence[str]) -> tuple[list[PredictedCrystal], list[Rejected]]:
    """Read chosen crystals of a screening.

    Args:
        folder: of `dtnn-fast screen`, with ``part-*.parquet``.
        ids: ids of the crystals.

    Returns:
        The crystals in the order of `ids`, and a record for each that the screening lacks or that cannot be read.

    Raises:
        BadFileError: the folder has no parts, or they lack a column.
        MissingPackageError: pyarrow is not installed.
    """
    dataset = optional_import("pyarrow.dataset", extra="cli", purpose="read a screening")
    parts = sorted(folder.glob("part-*.parquet"))
    if not parts:
        raise BadFileError(f"{folder}: expected the folder of a screening, with part-*.parquet")
    try:
        data = dataset.dataset([str(part) for part in parts])
        names = set(data.schema.names)
        structure = ["id", "lattice_vectors", "species_at_sites", "cartesian_site_positions"]
        missing = [name for name in structure if name not in names]
        if missing:
            raise BadFileError(f"{folder}: the parts lack the columns {', '.join(missing)}")
        tensors = [f"{target}_{element}" for target in TARGETS for element, _, _ in _ELEMENTS]
        errors = [f"{target}_mean_error" for target in TARGETS]
        columns = [*structure, *(name for name in (*tensors, *errors) if name in names)]
        table = data.to_table(columns=columns, filter=dataset.field("id").isin(list(ids)))
    except (OSError, ValueError) as error:
        if isinstance(error, BadFileError):
            raise
        raise BadFileError(f"{folder}: the parts cannot be read: {error}") from error
    by_id: dict[str, PredictedCrystal | Rejected] = {}
    for row in table.to_pylist():
        by_id.setdefault(row["id"], _from_row(row, str(folder)))
    found = [by_id.get(id) or Rejected(id, str(folder), "the screening has no crystal with this id") for id in ids]
    good = [item for item in found if isinstance(item, PredictedCrystal)]
    return good, [item for item in found if isinstance(item, Rejected)]


def _from_row(row: dict[str, Any], source: str) -> PredictedCrystal | Rejected:
    crystal = read_document(row, row["id"], source)
    if isinstance(crystal, Rejected):
        return crystal
    tensors = {}
    for target in TARGETS:
        values = {element: row.get(f"{target}_{element}") for element, _, _ in _ELEMENTS}
        if all(value is not None for value in values.values()):
            tensor = np.empty((3, 3))
            for element, i, j in _ELEMENTS:
                tensor[i, j] = tensor[j, i] = values[element]
            tensors[target] = tensor
    errors = {target: row.get(f"{target}_mean_error") for target in TARGETS}
    return PredictedCrystal(crystal, tensors, {name: float(e) for name, e in errors.items() if e is not None})


def predict_crystals(crystals: Iterable[Crystal], model: Predictor) -> tuple[list[PredictedCrystal], list[Rejected]]:
    """Predict crystals; those that the model cannot predict are recorded.

    Args:
        crystals: the crystals.
        model: the model.
    """
    good: list[PredictedCrystal] = []
    rejected = []
    for crystal in crystals:
        try:
            tensors = {target: values[0] for target, values in model.predict_targets(crystal).items()}
            errors = {
                target: float(model.predict_mean_with_errors(crystal, target)[1][0])
                for target in (tensors if model.mean_calibrations else ())
            }
        except BadCrystalError as error:
            rejected.append(Rejected.from_error(error, crystal.id, crystal.source))
            continue
        good.append(PredictedCrystal(crystal, tensors, errors))
    return good, rejected


def write_plan(folder: Path, folders: dict[str, PredictedCrystal]) -> None:
    """Write ``dfpt.json``: what was predicted, by the name of the crystal's folder."""
    rows = [
        {
            "folder": name,
            "id": one.crystal.id,
            "formula": one.crystal.formula,
            "lattice_vectors": one.crystal.cell.tolist(),
            "species_at_sites": [SYMBOLS[z] for z in one.crystal.atomic_numbers.tolist()],
            "cartesian_site_positions": one.crystal.positions.tolist(),
            "predicted": {target: tensor.tolist() for target, tensor in one.tensors.items()},
            "mean_errors": one.mean_errors,
        }
        for name, one in folders.items()
    ]
    content = {
        "format": FORMAT,
        "dtnn_fast_version": __version__,
        "unit": "relative permittivity, in the Cartesian frame of lattice_vectors; Angstrom",
        "crystals": rows,
    }
    with replacing(folder / PLAN_FILE) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_plan(folder: Path) -> dict[str, PredictedCrystal]:
    """Read what `write_plan` wrote: the crystals by the names of their folders.

    Raises:
        BadFileError: the file is missing, damaged or of another format.
    """
    path = folder / PLAN_FILE
    content = read_json_object(path)
    if content.get("format") != FORMAT:
        raise BadFileError(f"{path}: expected the format {FORMAT!r}, got {content.get('format')!r}")
    plan = {}
    try:
        for row in content["crystals"]:
            crystal = read_document(row, row["id"], row["id"])
            if isinstance(crystal, Rejected):
                raise ValueError(crystal.reason)
            tensors = {target: np.array(row["predicted"][target], dtype=float) for target in row["predicted"]}
            if any(tensor.shape != (3, 3) for tensor in tensors.values()):
                raise ValueError(f"predicted tensors of {row['id']} that are not 3x3")
            plan[str(row["folder"])] = PredictedCrystal(crystal, tensors, dict(row["mean_errors"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadFileError(f"{path}: damaged: {type(error).__name__}: {error}") from error
    return plan

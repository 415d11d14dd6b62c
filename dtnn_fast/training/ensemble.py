# SPDX-License-Identifier: MIT
"""Finished runs of the members of an ensemble as one run: the mean of their tensors, with calibrated error bars."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BadFileError, DTNNError
from ..nn.ensemble import combine
from ..nn.model import DTNN
from .error_bars import LEVEL, coverage, error_scale
from .predictions import PREDICTIONS_FILE, Predictions, load_predictions, save_predictions
from .results import errors_of_parts
from .run import MODEL_FOLDER, RESULTS_FILE
from .run_folder import SETTINGS_FILE, claim, is_new

MEMBERS_FOLDER = "members"


def combine_runs(
    folder: Path, members: Sequence[Path], systems: Mapping[str, str], command: str = "", label: str = ""
) -> dict[str, Any]:
    """Make a run folder of the ensemble: model, predictions, results with the coverage of its error bars.

    The error bars are scaled on the validation crystals and judged on the test crystals.

    Args:
        folder: of the ensemble; made when absent.
        members: finished run folders that differ in the number of the member only.
        systems: the crystal system of each crystal by its id.
        command: the command line, for the record.
        label: name of the ensemble in tables.

    Returns:
        What results.json holds.

    Raises:
        BadFileError: a member is unfinished or damaged, or the folder holds another run.
        DTNNError: the members were not trained alike.
    """
    records = [_read(member / SETTINGS_FILE) for member in members]
    results = [_read(member / RESULTS_FILE) for member in members]
    predictions = [load_predictions(member / PREDICTIONS_FILE) for member in members]
    _check_alike(members, records, predictions)
    first = predictions[0]
    stacked = {target: np.stack([member.predicted[target] for member in predictions]) for target in first.predicted}
    scales, bars = {}, {}
    parts = np.asarray(first.parts)
    for target, tensors in stacked.items():
        validation, test = parts == "validation", parts == "test"
        expected = first.expected[target]
        scales[target] = error_scale(tensors[:, validation], expected[validation])
        bars[target] = {
            "level": LEVEL,
            "scale": scales[target],
            "test_coverage": coverage(tensors[:, test], expected[test], scales[target]),
        }
    identity = {
        "settings": {**records[0]["settings"], "members": len(members)},
        "data": records[0]["data"],
    }
    if is_new(folder, identity):
        claim(folder, identity, command, label=label)
    try:
        models = [DTNN.from_pretrained(member / MODEL_FOLDER) for member in members]
        combine(models, scales).save(folder / MODEL_FOLDER)
    except ValueError as error:
        raise DTNNError(f"{folder}: {error}") from error
    mean = Predictions(
        first.ids, first.parts, {target: tensors.mean(0) for target, tensors in stacked.items()}, first.expected
    )
    save_predictions(folder / PREDICTIONS_FILE, mean)
    whole = {
        "train_seconds": sum(result["train_seconds"] for result in results),
        "parameters": results[0]["parameters"],
        "members": len(members),
        "error_bars": bars,
        **errors_of_parts(mean, systems),
    }
    (folder / RESULTS_FILE).write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    return whole


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadFileError(f"{path}: cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise BadFileError(f"{path}: expected an object, got {values!r}")
    return values


def _check_alike(
    members: Sequence[Path], records: Sequence[dict[str, Any]], predictions: Sequence[Predictions]
) -> None:
    def identity(record: dict[str, Any]) -> dict[str, Any]:
        settings = {name: value for name, value in record["settings"].items() if name != "member"}
        return {"settings": settings, "data": record["data"]}

    for folder, record, those in zip(members, records, predictions, strict=True):
        same_crystals = (those.ids, those.parts) == (predictions[0].ids, predictions[0].parts)
        if identity(record) != identity(records[0]) or not same_crystals:
            raise DTNNError(f"{folder}: trained with other settings or crystals than {members[0]}")

# SPDX-License-Identifier: MIT
"""Finished runs of the members of an ensemble as one run: the mean of their tensors, with calibrated error bars."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DTNNError
from ..json_object import read_json_object
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
    records = [read_json_object(member / SETTINGS_FILE) for member in members]
    results = [read_json_object(member / RESULTS_FILE) for member in members]
    predictions = [load_predictions(member / PREDICTIONS_FILE) for member in members]
    _check_alike(members, records, predictions)
    first = predictions[0]
    stacked = {target: np.stack([member.predicted[target] for member in predictions]) for target in first.predicted}
    bars = calibrate(stacked, first)
    identity = {
        "settings": {**records[0]["settings"], "members": len(members)},
        "data": records[0]["data"],
    }
    if is_new(folder, identity):
        claim(folder, identity, command, label=label)
    try:
        models = [DTNN.from_pretrained(member / MODEL_FOLDER) for member in members]
        ensemble = combine(models, {target: bar["scale"] for target, bar in bars.items()})
    except ValueError as error:
        raise DTNNError(f"{folder}: {error}") from error
    ensemble.save(folder / MODEL_FOLDER)
    seconds = sum(result["train_seconds"] for result in results)
    return write_ensemble(folder, stacked, first, bars, systems, results[0]["parameters"], seconds)


def calibrate(members: Mapping[str, np.ndarray], those: Predictions) -> dict[str, dict[str, float]]:
    """Scale error bars on the validation crystals, and judge them on the test crystals.

    Args:
        members: tensors of each member by target. [members, n, 3, 3].
        those: the crystals that they are of, with the expected tensors.

    Returns:
        For each target the level that was aimed at, the factor of the spread, and the share of test crystals covered.
    """
    parts = np.asarray(those.parts)
    validation, test = parts == "validation", parts == "test"
    bars = {}
    for target, tensors in members.items():
        expected = those.expected[target]
        scale = error_scale(tensors[:, validation], expected[validation])
        covered = coverage(tensors[:, test], expected[test], scale)
        bars[target] = {"level": LEVEL, "scale": scale, "test_coverage": covered}
    return bars


def write_ensemble(
    folder: Path,
    members: Mapping[str, np.ndarray],
    those: Predictions,
    bars: Mapping[str, Mapping[str, float]],
    systems: Mapping[str, str],
    parameters: Mapping[str, int],
    seconds: float,
) -> dict[str, Any]:
    """Write predictions.npz and results.json of the mean of members.

    Args:
        folder: of the run.
        members: see `calibrate`.
        those: see `calibrate`.
        bars: what `calibrate` gave.
        systems: the crystal system of each crystal by its id.
        parameters: for the record.
        seconds: of training, all members together.

    Returns:
        What results.json holds.
    """
    means = {target: tensors.mean(0) for target, tensors in members.items()}
    mean = Predictions(those.ids, those.parts, means, those.expected)
    save_predictions(folder / PREDICTIONS_FILE, mean)
    results = {
        "train_seconds": seconds,
        "parameters": dict(parameters),
        "members": len(next(iter(members.values()))),
        "error_bars": bars,
        **errors_of_parts(mean, systems),
    }
    # Last, since this file says that the run is whole.
    (folder / RESULTS_FILE).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return results


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

# SPDX-License-Identifier: MIT
"""Finished runs of the members of an ensemble as one run: the mean of their tensors, with calibrated error bars."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import DTNNError
from ..files import read_json_object
from ..model.dtnn import DTNN
from ..model.ensemble import MixedEnsemble
from ..model.join_decoders import combine
from .member_predictions import Members
from .predictions import PREDICTIONS_FILE, load_predictions
from .results import read_results
from .run_folder import MODEL_FOLDER, SETTINGS_FILE, claim, is_new


def combine_runs(
    folder: Path, members: Sequence[Path], systems: Mapping[str, str], command: str = "", label: str = ""
) -> dict[str, Any]:
    """Make a run folder of the ensemble: model, predictions, results with the coverage of its error bars.

    The error bars are scaled on the validation crystals and judged on the test crystals. Members with fewer than nine
    of them in common get none, such as rotated ones (`TrainingSettings.rotate`); `mix_runs` of several such ensembles
    does.

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
    results = [read_results(member) for member in members]
    predictions = [load_predictions(member / PREDICTIONS_FILE) for member in members]
    _check_alike(members, records)
    identity = {
        "settings": {**records[0]["settings"], "members": len(members)},
        "data": records[0]["data"],
    }
    models = [DTNN.from_pretrained(member / MODEL_FOLDER) for member in members]
    seconds = sum(result["train_seconds"] for result in results)
    record = {"train_seconds": seconds, "parameters": results[0]["parameters"]}
    together = Members.of(predictions)
    return write_ensemble(
        folder, identity, together, lambda scales: combine(models, scales), systems, record, command, label
    )


def write_ensemble(
    folder: Path,
    identity: dict[str, Any],
    together: Members,
    build: Callable[[dict[str, float]], DTNN | MixedEnsemble],
    systems: Mapping[str, str],
    record: dict[str, Any],
    command: str,
    label: str,
) -> dict[str, Any]:
    """Fill the run folder of an ensemble, which is claimed once its model could be made.

    Args:
        folder: of the ensemble; made when absent.
        identity: what tells runs apart.
        together: the predictions of its members.
        build: the model from the scales of its error bars by target.
        systems: the crystal system of each crystal by its id.
        record: what results.json says besides.
        command: the command line, for the record.
        label: name of the ensemble in tables.

    Returns:
        What results.json holds.

    Raises:
        BadFileError: the folder holds another run.
        DTNNError: the models do not go together.
    """
    unclaimed = is_new(folder, identity)
    bars = together.error_bars()
    try:
        model = build({target: bar["scale"] for target, bar in bars.items()})
    except ValueError as error:
        raise DTNNError(f"{folder}: {error}") from error
    if unclaimed:
        claim(folder, identity, command, label=label)
    model.save(folder / MODEL_FOLDER)
    return together.write(folder, bars, systems, record)


def _check_alike(members: Sequence[Path], records: Sequence[dict[str, Any]]) -> None:
    def identity(record: dict[str, Any]) -> dict[str, Any]:
        settings = {name: value for name, value in record["settings"].items() if name != "member"}
        return {"settings": settings, "data": record["data"]}

    for folder, record in zip(members, records, strict=True):
        if identity(record) != identity(records[0]):
            raise DTNNError(f"{folder}: trained with other settings or crystals than {members[0]}")

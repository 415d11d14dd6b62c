# SPDX-License-Identifier: MIT
"""Finished runs of models on different encoders as one run: the mean of all members, with calibrated error bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, combinations
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..errors import BadFileError, DTNNError
from ..files import read_json_object
from ..model.dtnn import DTNN
from ..model.ensemble import MixedEnsemble, combine, load_predictor
from .member_predictions import Members
from .run_folder import (
    MEMBERS_FOLDER,
    MODEL_FOLDER,
    PREDICTIONS_FILE,
    SETTINGS_FILE,
    RunPredictions,
    claim,
    is_new,
    load_predictions,
    read_results,
)


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


def mix_runs(
    folder: Path, runs: Sequence[Path], systems: Mapping[str, str], command: str = "", label: str = ""
) -> dict[str, Any]:
    """Make a run folder of the mean over the members of several runs, all of which count the same.

    The error bars are scaled on crystals that two members or more were not trained on, and judged on the test
    crystals.

    Args:
        folder: of the new run; made when absent.
        runs: folders of two finished runs or more on one split, each of a single model or of an ensemble.
        systems: the crystal system of each crystal by its id.
        command: the command line, for the record.
        label: name of the ensemble in tables.

    Returns:
        What results.json holds.

    Raises:
        BadFileError: a run is unfinished or damaged, or the folder holds another run.
        DTNNError: the runs differ in crystals, split or targets.
    """
    records = [read_json_object(run / SETTINGS_FILE) for run in runs]
    results = [read_results(run) for run in runs]
    _check_data(runs, records)
    members = list(chain.from_iterable(map(_member_predictions, runs, results)))
    _check_targets(members)
    together = Members.of([predictions for _, predictions in members])
    _check_different([place for place, _ in members], together)
    unknown = [id for id in together.ids if id not in systems]
    if unknown:
        raise DTNNError(f"{runs[0]}: trained on other crystals than those given, such as {unknown[0]}")
    settings = [record["settings"] for record in records]
    identity = {
        "settings": {"seed": settings[0]["seed"], "models": [_without_seed(one) for one in settings]},
        "data": records[0]["data"],
    }
    models = [
        model
        for run, result in zip(runs, results, strict=True)
        for model in _models(run / MODEL_FOLDER, result["members"])
    ]
    counts = [model.num_parameters() for model in models]
    record = {
        "train_seconds": sum(result["train_seconds"] for result in results),
        "parameters": {name: sum(count[name] for count in counts) for name in counts[0]},
    }
    return write_ensemble(
        folder, identity, together, lambda scales: MixedEnsemble(models, scales), systems, record, command, label
    )


def runs_by_split(paths: Sequence[Path]) -> dict[int | None, list[Path]]:
    """Sort the runs of several models by their splits.

    Args:
        paths: run folders, or folders with the subfolders split-0, split-1, ... of `dtnn-fast train --splits`.

    Returns:
        For each split the runs in the order of `paths`; under None where the paths are runs themselves.

    Raises:
        BadFileError: a path holds no run.
        DTNNError: one model has runs on other splits than another.
    """
    found: list[dict[int | None, Path]] = []
    for path in paths:
        if (path / SETTINGS_FILE).exists():
            found.append({None: path})
            continue
        below: dict[int | None, Path] = {
            int(number): part for part in path.glob("split-*") if (number := part.name[6:]).isdecimal()
        }
        if not below:
            raise BadFileError(f"{path}: no run there: expected settings.json or the folders split-0, split-1, ...")
        found.append(dict(sorted(below.items(), key=lambda item: item[0] or 0)))
    for path, runs in zip(paths, found, strict=True):
        if runs.keys() != found[0].keys():
            raise DTNNError(f"{path}: expected runs on the same splits as {paths[0]}")
    return {split: [runs[split] for runs in found] for split in found[0]}


def take_in_turn(runs: Sequence[Path], count: int) -> list[Path]:
    """Members of several ensembles in turn: member k of run k modulo the number of runs.

    Rotated members (`TrainingSettings.rotate`) thus keep the crystals for validation that member k has in each run.

    Args:
        runs: folders of ensembles, each with the runs of its members in the subfolder members.
        count: how many members to take in all.

    Returns:
        The run folders of the members, for `mix_runs`.

    Raises:
        DTNNError: there are fewer members to take than runs.
        BadFileError: a run has no such member.
    """
    if count < len(runs):
        raise DTNNError(f"ensemble: expected a member from each of the {len(runs)} runs or more, got {count} in all")
    taken = []
    for member in range(count):
        run = runs[member % len(runs)]
        place = run / MEMBERS_FOLDER / str(member)
        if not (place / SETTINGS_FILE).exists():
            raise BadFileError(f"{run}: no member {member} with a run of its own: expected one of train --members")
        taken.append(place)
    return taken


def _models(folder: Path, members: int) -> list[DTNN]:
    """The model in a folder, or the models of the ensemble there."""
    found = load_predictor(folder)
    models = [cast(DTNN, part) for part in (found.models if isinstance(found, MixedEnsemble) else [found])]
    count = sum(model.config.members for model in models)
    if count != members:
        raise BadFileError(f"{folder}: expected a model with the {members} members of the run's results, got {count}")
    return models


def _without_seed(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != "seed"}


def _check_data(runs: Sequence[Path], records: Sequence[dict[str, Any]]) -> None:
    def of(record: dict[str, Any]) -> tuple[Any, Any]:
        return record["data"], record["settings"]["seed"]

    if len(runs) < 2:
        raise DTNNError(f"ensemble: expected two runs or more, got {len(runs)}")
    for run, record in zip(runs, records, strict=True):
        try:
            found = of(record)
        except (KeyError, TypeError) as error:
            raise BadFileError(f"{run / SETTINGS_FILE}: not the settings of a run of dtnn-fast train") from error
        if found != of(records[0]):
            raise DTNNError(f"{run}: trained on other crystals or another split than {runs[0]}")


def _member_predictions(run: Path, result: Mapping[str, Any]) -> Iterator[tuple[Path, RunPredictions]]:
    """Of each member of an ensemble, or of a single model, with where they are."""
    count = result["members"]
    places = [run / MEMBERS_FOLDER / str(member) for member in range(count)] if count > 1 else [run]
    for place in places:
        yield place, load_predictions(place / PREDICTIONS_FILE)


def _check_targets(members: Sequence[tuple[Path, RunPredictions]]) -> None:
    first, wanted = members[0][0], set(members[0][1].expected)
    for place, predictions in members:
        if set(predictions.expected) != wanted:
            expected, got = ", ".join(sorted(wanted)), ", ".join(sorted(predictions.expected))
            raise DTNNError(f"{place}: expected predictions of {expected} as in {first}, got {got}")


def _check_different(places: Sequence[Path], together: Members) -> None:
    for one, other in combinations(range(len(places)), 2):
        if all(np.array_equal(values[one], values[other]) for values in together.tensors.values()):
            raise DTNNError(f"ensemble: {places[one]} and {places[other]} predict the same: a member may count once")

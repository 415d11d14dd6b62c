# SPDX-License-Identifier: MIT
"""Finished runs joined into the run of an ensemble (`dtnn_fast.Ensemble`), with calibrated error bars."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, combinations
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..errors import BadFileError, DTNNError
from ..files import read_json_object
from ..model.dtnn import DTNN
from ..model.ensemble_model import Ensemble, join_members
from ..model.load_predictor import load_predictor
from .charge_errors import CHARGES_FILE, ChargePredictions
from .member_predictions import MemberPredictions
from .run_folder import (
    MEMBERS_FOLDER,
    MODEL_FOLDER,
    PREDICTIONS_FILE,
    RUN_RECORD_FILE,
    RunPredictions,
    is_new,
    load_predictions,
    read_results,
    write_record,
)


def join_runs(
    folder: Path,
    runs: Sequence[Path],
    systems: Mapping[str, str],
    command: str = "",
    label: str = "",
    one_encoder: bool = False,
) -> dict[str, Any]:
    """Make the run folder of an ensemble of all members of several runs: model, predictions and results.

    Error bars are scaled on crystals that at least two members were not trained on, and judged on the test crystals.
    With fewer than nine such crystals there are no error bars. So rotated members (`TrainingSettings.rotate`) on one
    encoder have none, and get them when several such ensembles are joined.

    Args:
        folder: folder of the new run; created if missing.
        runs: at least two finished run folders on one split, each of a model with one member or several.
        systems: the crystal system of each crystal by its id.
        command: the command line, stored in settings.json.
        label: name of the ensemble in tables.
        one_encoder: whether the runs are members on one frozen encoder, trained with the same settings. They become one
            `DTNN`, whose encoder runs once. Otherwise the runs become an `Ensemble`.

    Returns:
        The content of results.json.

    Raises:
        BadFileError: a run is unfinished or damaged, or the folder holds another run.
        DTNNError: the runs differ in crystals, split or targets, or with `one_encoder` in their settings.
    """
    records = [read_json_object(run / RUN_RECORD_FILE) for run in runs]
    results = [read_results(run) for run in runs]
    _check_same_data(runs, records)
    if one_encoder:
        _check_same_settings(runs, records)
    members = list(chain.from_iterable(map(_member_predictions, runs, results)))
    _check_same_targets(members)
    predictions = MemberPredictions.stack([predictions for _, predictions in members])
    _check_all_differ([place for place, _ in members], predictions)
    unknown = [id for id in predictions.ids if id not in systems]
    if unknown:
        raise DTNNError(f"{runs[0]}: trained on other crystals than those given, such as {unknown[0]}")
    by_run = [_load_models(run / MODEL_FOLDER, result["members"]) for run, result in zip(runs, results, strict=True)]
    models = list(chain.from_iterable(by_run))
    run_key = {"settings": _joined_settings(records, one_encoder), "data": records[0]["data"]}
    new_run = is_new(folder, run_key)
    bars = predictions.error_bars()
    tensor_calibrations = {target: bar.tensor for target, bar in bars.items()}
    mean_calibrations = {target: bar.mean for target, bar in bars.items()}
    try:
        join = join_members if one_encoder else Ensemble
        model = join(models, tensor_calibrations=tensor_calibrations, mean_calibrations=mean_calibrations)
    except ValueError as error:
        raise DTNNError(f"{folder}: {error}") from error
    if new_run:
        write_record(folder, run_key, command, label=label)
    model.save(folder / MODEL_FOLDER)
    counts = [model.num_parameters() for model in (models[:1] if one_encoder else models)]
    record = {
        "train_seconds": sum(result["train_seconds"] for result in results),
        "parameters": {name: sum(count[name] for count in counts) for name in counts[0]},
    }
    charges = _join_charges(runs, [len(own) for own in by_run])
    if charges is not None and isinstance(model, Ensemble) and model.has_born_charges:
        charges.save(folder / CHARGES_FILE)
        record["born_charges"] = charges.summary()
    return predictions.write(folder, bars, systems, record)


def runs_by_split(paths: Sequence[Path]) -> dict[int | None, list[Path]]:
    """Sort the runs of several models by their splits.

    Args:
        paths: run folders, or folders with the subfolders split-0, split-1, ... of `dtnn-fast train --splits`.

    Returns:
        For each split the runs in the order of `paths`; under None where the paths are runs themselves.

    Raises:
        BadFileError: a path holds no run.
        DTNNError: the models have runs on different splits.
    """
    by_path: list[dict[int | None, Path]] = []
    for path in paths:
        if (path / RUN_RECORD_FILE).exists():
            by_path.append({None: path})
            continue
        splits: dict[int | None, Path] = {
            int(number): run for run in path.glob("split-*") if (number := run.name[6:]).isdecimal()
        }
        if not splits:
            raise BadFileError(f"{path}: found no run: expected settings.json or the folders split-0, split-1, ...")
        by_path.append(dict(sorted(splits.items(), key=lambda item: item[0] or 0)))
    for path, splits in zip(paths, by_path, strict=True):
        if splits.keys() != by_path[0].keys():
            raise DTNNError(f"{path}: expected runs on the same splits as {paths[0]}")
    return {split: [splits[split] for splits in by_path] for split in by_path[0]}


def alternate_members(runs: Sequence[Path], count: int) -> list[Path]:
    """Choose members alternately from several ensembles: member k from run k modulo the number of runs.

    Rotated members (`TrainingSettings.rotate`) thus have the same validation crystals as member k of any run.

    Args:
        runs: folders of ensembles, each with the runs of its members in the subfolder members.
        count: number of members in all.

    Returns:
        The run folders of the members, for `join_runs`.

    Raises:
        DTNNError: `count` is below the number of runs.
        BadFileError: a run has no such member.
    """
    if count < len(runs):
        raise DTNNError(f"ensemble: expected a member from each of the {len(runs)} runs or more, got {count} in total")
    chosen = []
    for member in range(count):
        run = runs[member % len(runs)]
        place = run / MEMBERS_FOLDER / str(member)
        if not (place / RUN_RECORD_FILE).exists():
            raise BadFileError(
                f"{run}: found no run of member {member}: expected a run of train --members with at least "
                f"{member + 1} members"
            )
        chosen.append(place)
    return chosen


def _join_charges(runs: Sequence[Path], weights: Sequence[float]) -> ChargePredictions | None:
    """Average the runs' Born charges of test crystals as `Ensemble` does; None where a run has none of them.

    Args:
        runs: the run folders.
        weights: number of models of each run.
    """
    found = [ChargePredictions.load(run / CHARGES_FILE) for run in runs]
    known = [charges for charges in found if charges is not None]
    return ChargePredictions.mean(known, weights) if len(known) == len(found) else None


def _joined_settings(records: Sequence[dict[str, Any]], one_encoder: bool) -> dict[str, Any]:
    """The entries of settings.json that distinguish the run of an ensemble from other runs."""
    settings = [record["settings"] for record in records]
    if one_encoder:
        return {**settings[0], "members": len(settings)}
    without_seed = [{name: value for name, value in run.items() if name != "seed"} for run in settings]
    return {"seed": settings[0]["seed"], "models": without_seed}


def _load_models(folder: Path, members: int) -> list[DTNN]:
    """Load the model in a folder, or the models of the ensemble there."""
    predictor = load_predictor(folder)
    models = [cast(DTNN, model) for model in (predictor.models if isinstance(predictor, Ensemble) else [predictor])]
    count = sum(model.config.members for model in models)
    if count != members:
        raise BadFileError(f"{folder}: expected a model with the {members} members of the run's results, got {count}")
    return models


def _member_predictions(run: Path, result: Mapping[str, Any]) -> Iterator[tuple[Path, RunPredictions]]:
    """Read the predictions of each member of a run, with the folders where they are."""
    count = result["members"]
    places = [run / MEMBERS_FOLDER / str(member) for member in range(count)] if count > 1 else [run]
    for place in places:
        yield place, load_predictions(place / PREDICTIONS_FILE)


def _check_same_data(runs: Sequence[Path], records: Sequence[dict[str, Any]]) -> None:
    def data_and_seed(record: dict[str, Any]) -> tuple[Any, Any]:
        return record["data"], record["settings"]["seed"]

    if len(runs) < 2:
        raise DTNNError(f"ensemble: expected two runs or more, got {len(runs)}")
    for run, record in zip(runs, records, strict=True):
        try:
            same = data_and_seed(record) == data_and_seed(records[0])
        except (KeyError, TypeError) as error:
            raise BadFileError(f"{run / RUN_RECORD_FILE}: not the settings of a run of dtnn-fast train") from error
        if not same:
            raise DTNNError(f"{run}: trained on other crystals or another split than {runs[0]}")


def _check_same_settings(runs: Sequence[Path], records: Sequence[dict[str, Any]]) -> None:
    def without_member(record: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in record["settings"].items() if name != "member"}

    for run, record in zip(runs, records, strict=True):
        if without_member(record) != without_member(records[0]):
            raise DTNNError(f"{run}: trained with other settings than {runs[0]}")


def _check_same_targets(members: Sequence[tuple[Path, RunPredictions]]) -> None:
    first, targets = members[0][0], set(members[0][1].expected)
    for place, predictions in members:
        if set(predictions.expected) != targets:
            expected, got = ", ".join(sorted(targets)), ", ".join(sorted(predictions.expected))
            raise DTNNError(f"{place}: expected predictions of {expected} as in {first}, got {got}")


def _check_all_differ(places: Sequence[Path], predictions: MemberPredictions) -> None:
    for left, right in combinations(range(len(places)), 2):
        if all(np.array_equal(values[left], values[right]) for values in predictions.tensors.values()):
            raise DTNNError(f"ensemble: {places[left]} and {places[right]} predict the same: a member may count once")

# SPDX-License-Identifier: MIT
"""What a search leaves beside its study file: all trials as CSV, the best settings as JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..training.training_settings import TrainingSettings
from .search_space import NAMES, Value, values_of, with_values

TRIALS_FILE, BEST_FILE = "trials.csv", "best.json"


def write_trials(path: Path, trials: Sequence[Any], fixed: Mapping[str, Value]) -> None:
    """Write one row for each finished trial: its settings, and the validation error, up to where it was given up.

    Args:
        path: of the CSV file.
        trials: as Optuna records them.
        fixed: searched settings that kept a value.
    """
    header = ["trial", "state", "validation_error", *NAMES, "seconds", "reason"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for trial in trials:
            values = {**fixed, **trial.params}
            attributes = trial.user_attrs
            end = [attributes.get("seconds", ""), attributes.get("reason", "")]
            writer.writerow(
                [trial.number, trial.state.name.lower(), trial.value, *(values[name] for name in NAMES), *end]
            )


def best_settings(base: TrainingSettings, trial: Any, fixed: Mapping[str, Value]) -> TrainingSettings:
    """The settings of a trial."""
    return with_values(base, {**fixed, **trial.params})


def write_best(
    path: Path, trial: Any, settings: TrainingSettings, train_command: str, surroundings: Mapping[str, Any]
) -> None:
    """Write the best settings, the command that trains with them, and the validation errors by which they were chosen.

    Args:
        path: of the JSON file.
        trial: the best one.
        settings: of it.
        train_command: that trains with them.
        surroundings: more for the record: command, numbers of trials, versions, hardware.
    """
    record = {
        "train_command": train_command,
        "validation_error": trial.value,
        "trial": trial.number,
        "values": values_of(settings),
        "splits": trial.user_attrs.get("splits", {}),
        "settings": settings.to_json(),
        **surroundings,
    }
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

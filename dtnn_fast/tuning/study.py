# SPDX-License-Identifier: MIT
"""The study: a search that adds trials to a file, and the tables of its trials and best settings."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import BadFileError, optional_import
from ..training.training_settings import TrainingSettings
from .objective import Objective, Pruned
from .search_space import SEARCHED_SETTINGS, Value, values_of, with_values

STUDY_FILE, TRIALS_FILE, BEST_FILE = "study.db", "trials.csv", "best.json"
_STUDY_NAME, _IDENTITY = "dtnn_fast", "identity"
# No trial is given up before this number of trials is finished, and before this fraction of its epochs.
_UNPRUNED_TRIALS, _UNPRUNED_FRACTION = 5, 0.2


def _import(module: str) -> Any:
    return optional_import(module, extra="tune", purpose="tune settings")


class Study:
    """A search whose trials are kept in a file: Optuna's tree-structured Parzen estimator, with pruning by the median.

    Args:
        folder: folder of the file; created if missing.
        identity: plain values that tell studies apart: trials with different values cannot be compared.
        epochs: maximum number of epochs of a trial.
        seed: seed of the search.

    Raises:
        MissingPackageError: Optuna is not installed.
        BadFileError: the file is damaged, or holds a study of other settings or data.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], epochs: int, seed: int = 0) -> None:
        self._optuna = _import("optuna")
        self._optuna.logging.set_verbosity(self._optuna.logging.ERROR)
        self._states = self._optuna.trial.TrialState
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / STUDY_FILE
        new_identity = json.dumps(identity, sort_keys=True)
        with self._errors_with_path():
            self._study = self._open(epochs)
            # A continued search must not draw the same random numbers again.
            self._study.sampler = self._optuna.samplers.TPESampler(seed=seed + len(self._trials()))
            old_identity = self._study.user_attrs.get(_IDENTITY)
            if old_identity is None:
                self._study.set_user_attr(_IDENTITY, new_identity)
            if any(trial.value is None for trial in self._trials(self._states.COMPLETE)):
                raise BadFileError(
                    f"{self.path}: damaged: a finished trial has no value; choose another folder or remove it"
                )
        if old_identity not in (None, new_identity):
            raise BadFileError(
                f"{self.path}: contains a search with other settings or data; choose another folder or delete it"
            )

    def _open(self, epochs: int) -> Any:
        # SQLAlchemy escapes characters of the path that have a meaning in a URL.
        url = _import("sqlalchemy.engine").URL.create("sqlite", database=str(self.path))
        pruners = self._optuna.pruners
        return self._optuna.create_study(
            storage=self._optuna.storages.RDBStorage(url.render_as_string()),
            study_name=_STUDY_NAME,
            direction="minimize",
            load_if_exists=True,
            pruner=pruners.MedianPruner(_UNPRUNED_TRIALS, n_warmup_steps=round(_UNPRUNED_FRACTION * epochs)),
        )

    @contextmanager
    def _errors_with_path(self) -> Iterator[None]:
        """Turn errors of the database into a `BadFileError` with the path."""
        database_error = _import("sqlalchemy.exc").SQLAlchemyError
        try:
            yield
        except (database_error, self._optuna.exceptions.OptunaError) as error:
            first_line = str(error.__cause__ or error).splitlines()[0]
            raise BadFileError(f"{self.path}: damaged, not a study, or cannot be written: {first_line}") from error

    def _trials(self, *states: Any) -> list[Any]:
        trials: list[Any] = self._study.get_trials(deepcopy=False, states=states or None)
        return trials

    @property
    def finished(self) -> list[Any]:
        """Trials of Optuna that were completed or given up; interrupted ones are left out."""
        return self._trials(self._states.COMPLETE, self._states.PRUNED)

    @property
    def best(self) -> Any | None:
        """The completed trial with the lowest validation error, or None before the first completed trial."""
        return min(self._trials(self._states.COMPLETE), key=lambda trial: trial.value, default=None)

    def search(
        self,
        objective: Objective,
        num_trials: int,
        on_start: Callable[[Any], None] = lambda trial: None,
        on_trial: Callable[[Any], None] = lambda trial: None,
    ) -> None:
        """Add trials until the study has the wanted number of finished ones.

        The first trial of a study has the settings of `objective.base`. An error or Ctrl-C ends the search; the next
        search starts the interrupted trial again.

        Args:
            objective: gives the validation error of a trial.
            num_trials: wanted number of finished trials, with those of earlier searches.
            on_start: called at the start of each trial.
            on_trial: called with each finished trial.

        Raises:
            BadFileError: the file cannot be written.
        """
        with self._errors_with_path():
            if not self._trials():
                base = values_of(objective.base)
                self._study.enqueue_trial({name: value for name, value in base.items() if name not in objective.fixed})
            while len(self.finished) < num_trials:
                trial = self._study.ask()
                on_start(trial)
                try:
                    value = objective(trial)
                except Pruned:
                    finished = self._study.tell(trial, state=self._states.PRUNED)
                except BaseException:
                    self._study.tell(trial, state=self._states.FAIL)
                    self._study.enqueue_trial(trial.params)
                    raise
                else:
                    finished = self._study.tell(trial, value)
                on_trial(finished)


def write_trials(path: Path, trials: Sequence[Any], fixed: Mapping[str, Value]) -> None:
    """Write a row for each finished trial: its settings, and its last validation error.

    Args:
        path: path of the CSV file.
        trials: trials of Optuna.
        fixed: values of settings that were not searched.
    """
    header = ["trial", "state", "validation_error", *SEARCHED_SETTINGS, "seconds", "reason"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for trial in trials:
            values = {**fixed, **trial.params}
            attributes = trial.user_attrs
            settings = [values[name] for name in SEARCHED_SETTINGS]
            seconds, reason = attributes.get("seconds", ""), attributes.get("reason", "")
            writer.writerow([trial.number, trial.state.name.lower(), trial.value, *settings, seconds, reason])


def best_settings(base: TrainingSettings, trial: Any, fixed: Mapping[str, Value]) -> TrainingSettings:
    """Make the settings of a trial."""
    return with_values(base, {**fixed, **trial.params})


def write_best(
    path: Path, trial: Any, settings: TrainingSettings, train_command: str, surroundings: Mapping[str, Any]
) -> None:
    """Write the best settings, the command that trains with them, and the validation errors by which they were chosen.

    Args:
        path: path of the JSON file.
        trial: the best one.
        settings: settings of this trial.
        train_command: command that trains with them.
        surroundings: further entries: command, numbers of trials, versions, hardware.
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

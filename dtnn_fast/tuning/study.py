# SPDX-License-Identifier: MIT
"""The study file, which keeps all trials, and the search that adds to it."""

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
from .search_space import NAMES, Value, values_of, with_values

STUDY_FILE = "study.db"
_NAME, _IDENTITY = "dtnn_fast", "identity"
# Trials before the first is given up, and the part of the epochs that each of them gets.
_FEWEST_TRIALS, _FEWEST_EPOCHS = 5, 0.2


def _import(module: str) -> Any:
    return optional_import(module, extra="tune", purpose="tune settings")


class Study:
    """A search that is kept in a file: Optuna's tree-structured Parzen estimator, with pruning by the median.

    Args:
        folder: where the file is, or is made.
        identity: plain values that tell studies apart; trials of different ones cannot be compared.
        epochs: of a trial, at most.
        seed: of the search.

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
        wanted = json.dumps(identity, sort_keys=True)
        with self._naming_the_file():
            self._study = self._open(epochs)
            # A search that goes on must not draw the same numbers again.
            self._study.sampler = self._optuna.samplers.TPESampler(seed=seed + len(self._trials()))
            found = self._study.user_attrs.get(_IDENTITY)
            if found is None:
                self._study.set_user_attr(_IDENTITY, wanted)
            if any(trial.value is None for trial in self._trials(self._states.COMPLETE)):
                raise BadFileError(
                    f"{self.path}: damaged: a finished trial has no value; choose another folder or remove it"
                )
        if found not in (None, wanted):
            raise BadFileError(
                f"{self.path}: holds a study of other settings or data; choose another folder or remove it"
            )

    def _open(self, epochs: int) -> Any:
        # SQLAlchemy escapes what means something in a URL.
        url = _import("sqlalchemy.engine").URL.create("sqlite", database=str(self.path))
        pruners = self._optuna.pruners
        return self._optuna.create_study(
            storage=self._optuna.storages.RDBStorage(url.render_as_string()),
            study_name=_NAME,
            direction="minimize",
            load_if_exists=True,
            pruner=pruners.MedianPruner(_FEWEST_TRIALS, n_warmup_steps=round(_FEWEST_EPOCHS * epochs)),
        )

    @contextmanager
    def _naming_the_file(self) -> Iterator[None]:
        """Turn errors of the database into one that names the file."""
        database_error = _import("sqlalchemy.exc").SQLAlchemyError
        try:
            yield
        except (database_error, self._optuna.exceptions.OptunaError) as error:
            first = str(error.__cause__ or error).splitlines()[0]
            raise BadFileError(
                f"{self.path}: not the file of a study, or damaged, or it cannot be written: {first}"
            ) from error

    def _trials(self, *states: Any) -> list[Any]:
        trials: list[Any] = self._study.get_trials(deepcopy=False, states=states or None)
        return trials

    @property
    def finished(self) -> list[Any]:
        """The trials that were trained to the end or given up, as Optuna records them; no interrupted ones."""
        return self._trials(self._states.COMPLETE, self._states.PRUNED)

    @property
    def best(self) -> Any | None:
        """The trial with the lowest validation error, or None before the first that was trained to the end."""
        return min(self._trials(self._states.COMPLETE), key=lambda trial: trial.value, default=None)

    def search(
        self,
        objective: Objective,
        num_trials: int,
        on_start: Callable[[Any], None] = lambda trial: None,
        on_trial: Callable[[Any], None] = lambda trial: None,
    ) -> None:
        """Add trials until the study has as many as wanted; the first one has the settings that the search starts from.

        An error or Ctrl-C ends the search; the trial that was under way is begun again by the next one.

        Args:
            objective: gives the validation error of a trial.
            num_trials: finished trials, with those that the study already has.
            on_start: called with each trial that begins.
            on_trial: called with each finished trial.

        Raises:
            BadFileError: the file cannot be written.
        """
        with self._naming_the_file():
            if not self._trials():
                start = values_of(objective.base)
                self._study.enqueue_trial({name: v for name, v in start.items() if name not in objective.fixed})
            while len(self.finished) < num_trials:
                trial = self._study.ask()
                on_start(trial)
                try:
                    value = objective(trial)
                except Pruned:
                    done = self._study.tell(trial, state=self._states.PRUNED)
                except BaseException:
                    self._study.tell(trial, state=self._states.FAIL)
                    self._study.enqueue_trial(trial.params)
                    raise
                else:
                    done = self._study.tell(trial, value)
                on_trial(done)


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

# SPDX-License-Identifier: MIT
"""The search space: searched settings with their possible values, and the training settings of a trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ..errors import DTNNError
from ..training.training_settings import TrainingSettings

Value = bool | int | float | str


class Trial(Protocol):
    """The methods of a trial of Optuna that suggest values."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Suggest a number of a range."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Suggest one of the choices."""


@dataclass(frozen=True)
class Choice:
    """A setting with a list of possible values."""

    values: tuple[Value, ...]

    def suggest(self, trial: Trial, name: str) -> Value:
        """Suggest the value of a trial."""
        value: Value = trial.suggest_categorical(name, self.values)
        return value

    def __contains__(self, value: Value) -> bool:
        return value in self.values

    def __str__(self) -> str:
        return "one of " + ", ".join(str(value).lower() for value in self.values)


@dataclass(frozen=True)
class Range:
    """A setting with a range of possible numbers, searched on a linear or logarithmic scale."""

    low: float
    high: float
    log: bool = False

    def suggest(self, trial: Trial, name: str) -> Value:
        """Suggest the value of a trial."""
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def __contains__(self, value: Value) -> bool:
        return not isinstance(value, str) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"a number from {self.low:g} to {self.high:g}"


# Ranges around the defaults; the names are those of the options of dtnn-fast train.
_SPACE_WITHOUT_LAYER: Mapping[str, Choice | Range] = {
    "blocks": Choice((1, 2, 3)),
    "latent": Choice((32, 64, 128, 256)),
    "dropout": Range(0.0, 0.5),
    "bonds": Choice((True, False)),
    "residual": Choice((True, False)),
    "learning_rate": Range(1e-5, 1e-2, log=True),
    "weight_decay": Range(1e-6, 1.0, log=True),
    "batch_size": Choice((16, 32, 64, 128)),
}
SEARCHED_SETTINGS = ("layer", *_SPACE_WITHOUT_LAYER)
# The settings of the decoder are all others.
_TRAINING_SETTINGS = ("learning_rate", "weight_decay", "batch_size")


def search_space(num_layers: int) -> dict[str, Choice | Range]:
    """Give the possible values of the searched settings, by name.

    Args:
        num_layers: number of layers of the encoder. A decoder reads a single layer, all, or all but the last.
    """
    single_layers = [str(layer) for layer in range(1, num_layers + 1)]
    several_layers = [f"1-{last}" for last in (num_layers - 1, num_layers) if last > 1]
    return {"layer": Choice((*single_layers, *several_layers)), **_SPACE_WITHOUT_LAYER}


def _space_of(settings: TrainingSettings) -> dict[str, Choice | Range]:
    return search_space(len(settings.model.encoder.cutoffs))


def values_of(settings: TrainingSettings) -> dict[str, Value]:
    """Give the values of the searched settings in the settings of a run, by name.

    Raises:
        ValueError: the decoder reads layers that are not in the search space.
    """
    values = {
        name: getattr(settings if name in _TRAINING_SETTINGS else settings.model.decoder, name)
        for name in SEARCHED_SETTINGS
    }
    layers, choice = settings.model.decoder.layers, _space_of(settings)["layer"]
    first, last = layers[0], layers[-1]
    name = str(last) if first == last else f"{first}-{last}"
    if name not in choice or _layers(name) != layers:
        raise ValueError(f"values_of: expected layers that are {choice}, got {list(layers)}")
    return {**values, "layer": name}


def with_values(settings: TrainingSettings, values: Mapping[str, Value]) -> TrainingSettings:
    """Replace values of searched settings in the settings of a run.

    Raises:
        ValueError: a name is not a searched setting.
    """
    unknown = values.keys() - set(SEARCHED_SETTINGS)
    if unknown:
        raise ValueError(
            f"with_values: expected names of {', '.join(SEARCHED_SETTINGS)}, got {', '.join(sorted(unknown))}"
        )
    training: dict[str, Any] = {name: value for name, value in values.items() if name in _TRAINING_SETTINGS}
    decoder: dict[str, Any] = {name: value for name, value in values.items() if name not in _TRAINING_SETTINGS}
    if "layer" in decoder:
        *more, last = _layers(decoder["layer"])
        decoder |= {"layer": last, "more_layers": tuple(more)}
    model = replace(settings.model, decoder=replace(settings.model.decoder, **decoder))
    return replace(settings, model=model, **training)


def suggest(trial: Trial, base: TrainingSettings, fixed: Mapping[str, Value]) -> TrainingSettings:
    """Suggest the settings of a trial.

    Args:
        trial: trial of Optuna.
        base: settings that are not searched.
        fixed: values of settings that could be searched but are fixed.
    """
    suggested = {name: space.suggest(trial, name) for name, space in _space_of(base).items() if name not in fixed}
    return with_values(base, {**fixed, **suggested})


def parse_fixed(text: str, num_layers: int) -> tuple[str, Value]:
    """Read a setting and its value from text such as ``"layer=1-5"`` or ``"bonds=false"``.

    Args:
        text: text from the command line.
        num_layers: number of layers of the encoder.

    Raises:
        DTNNError: the setting is not a searched one, or the value is not in the search space.
    """
    name, _, value_text = text.partition("=")
    name = name.strip().replace("-", "_")
    if name not in SEARCHED_SETTINGS:
        raise DTNNError(f"tune: expected NAME=VALUE with a name of {', '.join(SEARCHED_SETTINGS)}, got {text!r}")
    space = search_space(num_layers)[name]
    try:
        value = _parse(value_text.strip().lower(), space)
    except ValueError:
        value = None
    if value is None or value not in space:
        raise DTNNError(f"tune: expected `{name}` to be {space}, got {value_text.strip()!r}")
    return name, value


def _layers(name: str) -> tuple[int, ...]:
    """Give the layers of a value of "layer" such as ``"4"`` or ``"1-5"``."""
    first, _, last = name.partition("-")
    return tuple(range(int(first), int(last or first) + 1))


def _parse(text: str, space: Choice | Range) -> Value | None:
    if isinstance(space, Range):
        return float(text)
    if isinstance(space.values[0], str):
        return text
    if isinstance(space.values[0], bool):
        return {"true": True, "false": False}.get(text)
    return int(text)

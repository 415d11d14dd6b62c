# SPDX-License-Identifier: MIT
"""The settings that are searched, and what a trial of the search makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ..errors import DTNNError
from ..training.training_settings import TrainingSettings

Value = bool | int | float | str


class Trial(Protocol):
    """What is needed of a trial of Optuna."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number of a range."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """One of some values."""


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Value, ...]

    def suggest(self, trial: Trial, name: str) -> Value:
        """The value of a trial."""
        value: Value = trial.suggest_categorical(name, self.values)
        return value

    def __contains__(self, value: Value) -> bool:
        return value in self.values

    def __str__(self) -> str:
        return "one of " + ", ".join(str(value).lower() for value in self.values)


@dataclass(frozen=True)
class Range:
    """A number of a range, on a logarithmic scale or not."""

    low: float
    high: float
    log: bool = False

    def suggest(self, trial: Trial, name: str) -> Value:
        """The value of a trial."""
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def __contains__(self, value: Value) -> bool:
        return not isinstance(value, str) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"a number from {self.low:g} to {self.high:g}"


# The names are those of the options of dtnn-fast train. Around the paper's settings.
_BESIDE_LAYER: Mapping[str, Choice | Range] = {
    "blocks": Choice((1, 2, 3)),
    "latent": Choice((32, 64, 128, 256)),
    "dropout": Range(0.0, 0.5),
    "bonds": Choice((True, False)),
    "residual": Choice((True, False)),
    "learning_rate": Range(1e-5, 1e-2, log=True),
    "weight_decay": Range(1e-6, 1.0, log=True),
    "batch_size": Choice((16, 32, 64, 128)),
}
NAMES = ("layer", *_BESIDE_LAYER)
_OF_TRAINING = ("learning_rate", "weight_decay", "batch_size")


def search_space(num_layers: int) -> dict[str, Choice | Range]:
    """What is searched, by name.

    Args:
        num_layers: of the encoder. A decoder reads one of them, all together, or all but the last.
    """
    one = [str(layer) for layer in range(1, num_layers + 1)]
    several = [f"1-{last}" for last in (num_layers - 1, num_layers) if last > 1]
    return {"layer": Choice((*one, *several)), **_BESIDE_LAYER}


def _space_of(settings: TrainingSettings) -> dict[str, Choice | Range]:
    return search_space(len(settings.model.encoder.cutoffs))


def values_of(settings: TrainingSettings) -> dict[str, Value]:
    """The searched settings of a run, by name.

    Raises:
        ValueError: its layers are no value of the search.
    """
    values = {name: getattr(settings if name in _OF_TRAINING else settings.model.decoder, name) for name in NAMES}
    layers, choice = settings.model.decoder.layers, _space_of(settings)["layer"]
    first, last = layers[0], layers[-1]
    name = str(last) if first == last else f"{first}-{last}"
    if name not in choice or _layers(name) != layers:
        raise ValueError(f"values_of: expected layers that are {choice}, got {list(layers)}")
    return {**values, "layer": name}


def with_values(settings: TrainingSettings, values: Mapping[str, Value]) -> TrainingSettings:
    """A run with some of the searched settings changed."""
    unknown = values.keys() - set(NAMES)
    if unknown:
        raise ValueError(f"with_values: expected names of {', '.join(NAMES)}, got {', '.join(sorted(unknown))}")
    training: dict[str, Any] = {name: value for name, value in values.items() if name in _OF_TRAINING}
    decoder: dict[str, Any] = {name: value for name, value in values.items() if name not in _OF_TRAINING}
    if "layer" in decoder:
        *more, last = _layers(decoder["layer"])
        decoder |= {"layer": last, "more_layers": tuple(more)}
    model = replace(settings.model, decoder=replace(settings.model.decoder, **decoder))
    return replace(settings, model=model, **training)


def suggest(trial: Trial, base: TrainingSettings, fixed: Mapping[str, Value]) -> TrainingSettings:
    """The settings of a trial.

    Args:
        trial: of Optuna.
        base: everything that is not searched.
        fixed: searched settings that keep a value.
    """
    searched = {name: space.suggest(trial, name) for name, space in _space_of(base).items() if name not in fixed}
    return with_values(base, {**fixed, **searched})


def parse_fixed(text: str, num_layers: int) -> tuple[str, Value]:
    """A setting and its value from text such as ``"layer=1-5"`` or ``"bonds=false"``.

    Args:
        text: from the command line.
        num_layers: of the encoder.

    Raises:
        DTNNError: there is no such setting, or the value is not one that is searched.
    """
    name, _, given = text.partition("=")
    name = name.strip().replace("-", "_")
    if name not in NAMES:
        raise DTNNError(f"tune: expected NAME=VALUE with a name of {', '.join(NAMES)}, got {text!r}")
    space = search_space(num_layers)[name]
    try:
        value = _parse(given.strip().lower(), space)
    except ValueError:
        value = None
    if value is None or value not in space:
        raise DTNNError(f"tune: expected `{name}` to be {space}, got {given.strip()!r}")
    return name, value


def _layers(name: str) -> tuple[int, ...]:
    """What a value of "layer" means: one layer of the encoder, or several."""
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

# SPDX-License-Identifier: MIT
"""Options that train and tune have in common."""

from __future__ import annotations

from enum import StrEnum

import typer

LARGEST_SEED = 2**32 - 1  # what NumPy's RandomState takes
_MOST_SPLITS = 1000
_MOST_LAYERS = 5


class Target(StrEnum):
    """Which tensor to learn."""

    electronic = "electronic"
    ionic = "ionic"
    total = "total"
    all = "all"

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors it stands for."""
        return tuple(t.value for t in Target if t is not Target.all) if self is Target.all else (self.value,)


def parse_splits(text: str) -> list[int]:
    """Seeds from text such as "0-4" or "0,2,4".

    Raises:
        typer.BadParameter: it is no such text.
    """
    seeds: list[int] = []
    try:
        for part in text.split(","):
            first, dash, last = part.partition("-")
            numbers = range(int(first), int(last if dash else first) + 1)
            if not numbers or len(seeds) + len(numbers) > _MOST_SPLITS or numbers[-1] > LARGEST_SEED:
                raise ValueError
            seeds += numbers
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"expected up to {_MOST_SPLITS} seeds of at most {LARGEST_SEED}, such as 0-4 or 0,2,4, got {text!r}",
            param_hint="--splits",
        ) from None
    return list(dict.fromkeys(seeds))


def parse_layers(text: str) -> tuple[int, ...]:
    """Layers of an encoder from text such as "4", "2,3" or "1-5", in rising order.

    Raises:
        typer.BadParameter: it is no such text.
    """
    try:
        first, dash, last = text.partition("-")
        numbers = range(int(first), int(last) + 1) if dash else [int(part) for part in text.split(",")]
        layers = tuple(sorted(set(numbers)))
        if not layers or layers[0] < 1 or layers[-1] > _MOST_LAYERS:
            raise ValueError
    except ValueError:
        raise typer.BadParameter(
            f"expected layers from 1 to {_MOST_LAYERS} such as 4, 2,3 or 1-5, got {text!r}", param_hint="--layer"
        ) from None
    return layers


def parse_channels(text: str) -> list[int]:
    """Three widths from text such as "128,32,32".

    Raises:
        typer.BadParameter: it is no such text.
    """
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 3 or min(numbers) < 1:
        raise typer.BadParameter(
            f"expected three positive numbers such as 128,32,32, got {text!r}", param_hint="--channels"
        )
    return numbers

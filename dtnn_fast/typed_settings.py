# SPDX-License-Identifier: MIT
"""Settings from the plain values of a JSON file, with names and types checked."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


def from_plain(kind: type[T], values: Any, name: str = "") -> T:
    """Make a settings dataclass of bool, int, float, str, tuples of one of them, and dataclasses of the same sort.

    Every setting must be there: a default in its place could change what a saved model computes.

    Args:
        kind: the dataclass.
        values: what its `asdict` was before it went through JSON.
        name: of the place in the file, for messages.

    Returns:
        The settings.

    Raises:
        ValueError: a setting is missing, unknown, of another type, or refused by the dataclass.
    """
    result: T = _convert(kind, values, name or "the settings")
    return result


def _convert(kind: Any, value: Any, name: str) -> Any:
    if get_origin(kind) is UnionType and isinstance(value, get_args(kind)):
        return value  # one of several dataclasses, which the caller chose and made
    if is_dataclass(kind):
        return _convert_fields(kind, value, name)
    if get_origin(kind) is tuple and isinstance(value, list):
        return tuple(_convert(get_args(kind)[0], item, f"{name}[{place}]") for place, item in enumerate(value))
    # By `type`, because a bool is an int to Python, but not to people.
    if kind is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if kind is not float and type(value) is kind:
        return value
    expected = {tuple: "a list", float: "a finite number"}.get(get_origin(kind) or kind, kind.__name__)
    raise ValueError(f"expected `{name}` to be {expected}, got {value!r}")


def _convert_fields(kind: Any, values: Any, name: str) -> Any:
    if not isinstance(values, dict):
        raise ValueError(f"expected `{name}` to be an object, got {values!r}")
    hints = get_type_hints(kind)
    names = {field.name for field in fields(kind)}
    for problem, found in (("lacks", names - values.keys()), ("has the unknown", values.keys() - names)):
        if found:
            raise ValueError(f"`{name}` {problem} {', '.join(map(repr, sorted(found)))}")
    return kind(**{key: _convert(hints[key], value, key) for key, value in values.items()})

# SPDX-License-Identifier: MIT
"""Settings from the plain values of a JSON file, with names and types checked."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


def from_plain(wanted_type: type[T], values: Any, name: str = "") -> T:
    """Make a settings dataclass of bool, int, float, str, tuples of these, and such dataclasses.

    Every setting must be there: a default in its place could change what a saved model computes.

    Args:
        wanted_type: the dataclass.
        values: what its `asdict` was before it went through JSON.
        name: name of the place in the file, for messages.

    Returns:
        The settings.

    Raises:
        ValueError: a setting is missing, unknown, of another type, or refused by the dataclass.
    """
    result: T = _convert(wanted_type, values, name or "the settings")
    return result


def _convert(wanted_type: Any, value: Any, name: str) -> Any:
    if get_origin(wanted_type) is UnionType and isinstance(value, get_args(wanted_type)):
        return value  # one of several dataclasses, which the caller chose and made
    if is_dataclass(wanted_type):
        return _convert_fields(wanted_type, value, name)
    if get_origin(wanted_type) is tuple and isinstance(value, list):
        return tuple(_convert(get_args(wanted_type)[0], item, f"{name}[{place}]") for place, item in enumerate(value))
    # By `type`, because a bool is an int to Python, but not to people.
    if wanted_type is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if wanted_type is not float and type(value) is wanted_type:
        return value
    plain_type = get_origin(wanted_type) or wanted_type
    expected = {tuple: "a list", float: "a finite number"}.get(plain_type, wanted_type.__name__)
    raise ValueError(f"expected `{name}` to be {expected}, got {value!r}")


def _convert_fields(wanted_type: Any, values: Any, name: str) -> Any:
    if not isinstance(values, dict):
        raise ValueError(f"expected `{name}` to be an object, got {values!r}")
    hints = get_type_hints(wanted_type)
    names = {field.name for field in fields(wanted_type)}
    for problem, found in (("lacks", names - values.keys()), ("has the unknown", values.keys() - names)):
        if found:
            raise ValueError(f"`{name}` {problem} {', '.join(map(repr, sorted(found)))}")
    return wanted_type(**{key: _convert(hints[key], value, key) for key, value in values.items()})

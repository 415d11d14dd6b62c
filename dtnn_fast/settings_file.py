# SPDX-License-Identifier: MIT
"""Settings files: TOML that is read into a dataclass of sections, with names, types and ranges checked.

A settings class is a frozen dataclass whose fields are made by `setting` or hold another such dataclass, the section of
that name. Keys are named by section and name, for example ``training.learning_rate``.
"""

from __future__ import annotations

import difflib
import math
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from .errors import BadFileError, optional_import

T = TypeVar("T")

_LINE = 100  # characters of a comment line
_EXPECTED = {bool: "true or false", int: "an integer", float: "a finite number", str: "a text"}


@dataclass(frozen=True)
class _Limits:
    """Values that a setting may have, beside its type."""

    least: float | None = None
    most: float | None = None
    above: float | None = None
    choices: tuple[str, ...] = ()

    def describe(self) -> str:
        """The limits in words, to follow "expected `key` "."""
        if self.choices:
            return f"to be one of {', '.join(self.choices)}"
        bounds = {"at least": self.least, "above": self.above, "at most": self.most}
        return "to be " + " and ".join(
            # Whole numbers in full: 4294967295, not 4.29497e+09.
            f"{words} {bound if isinstance(bound, int) else format(bound, 'g')}"
            for words, bound in bounds.items()
            if bound is not None
        )

    def allow(self, value: Any) -> bool:
        """Whether a value of the right type, or every item of a list, is within the limits."""
        if isinstance(value, tuple):
            return all(self.allow(item) for item in value)
        if self.choices:
            return value in self.choices
        return not (
            (self.least is not None and value < self.least)
            or (self.most is not None and value > self.most)
            or (self.above is not None and value <= self.above)
        )


def setting(
    default: Any,
    help: str,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """Declare a setting: a dataclass field with its default, explanation and limits.

    Args:
        default: value of the setting where a file does not give it.
        help: a full phrase with unit, which stands above the key in a printed file.
        least: smallest value.
        most: largest value.
        above: values must be larger than this.
        choices: allowed texts.
    """
    return field(default=default, metadata={"help": help, "limits": _Limits(least, most, above, choices)})


def keys_of(settings_class: type[Any]) -> list[str]:
    """The keys of all settings, for example ``"training.epochs"``."""
    return list(_keys(settings_class))


def help_of(settings_class: type[Any], key: str) -> str:
    """The explanation of a setting, for example of ``"training.epochs"``."""
    return str(_find(settings_class, key)[1].metadata["help"])


def default_of(settings_class: type[Any], key: str) -> Any:
    """The default of a setting, for example of ``"training.epochs"``."""
    return _find(settings_class, key)[1].default


def read_toml_settings(settings_class: type[T], path: Path) -> T:
    """Read a settings file; settings that it does not give have their defaults.

    Args:
        settings_class: the settings class.
        path: path of the TOML file.

    Raises:
        BadFileError: the file is missing or not TOML, or a key is unknown, or a value has a wrong type or is out of
            range. The message names the file and the key, and the nearest known key.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadFileError(f"{path}: there is no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadFileError(f"{path}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise BadFileError(f"{path}: not valid TOML: {error}") from error
    try:
        return with_values(settings_class(), dict(_flat(values, settings_class)))
    except ValueError as error:
        raise BadFileError(f"{path}: {error}") from error


def with_values(settings: T, values: Mapping[str, Any]) -> T:
    """Change some settings.

    Args:
        settings: a settings object.
        values: new values by key, such as ``{"training.epochs": 100}``; lists become tuples.

    Raises:
        ValueError: a key is unknown, or a value has a wrong type or is out of range.
    """
    for key, value in values.items():
        section, found, wanted = _find(type(settings), key)
        checked = _check(key, value, wanted, found.metadata["limits"])
        if section is None:
            settings = replace(settings, **{found.name: checked})  # type: ignore[type-var]
        else:
            changed = replace(getattr(settings, section), **{found.name: checked})
            settings = replace(settings, **{section: changed})  # type: ignore[type-var]
    return settings


def parse_assignment(settings_class: type[Any], text: str) -> tuple[str, Any]:
    """Split text of the command line such as ``"decoder.latent=64"`` into key and value.

    The value is read as TOML; texts need no quotes, and lists no brackets: ``encoder.channels=64,16,16``.

    Args:
        settings_class: the settings class.
        text: ``KEY=VALUE``.

    Raises:
        ValueError: the text has no ``=``, or the key is unknown.
    """
    key, equals, given = (part.strip() for part in text.partition("="))
    if not equals:
        raise ValueError(f"expected KEY=VALUE such as training.epochs=100, got {text!r}")
    *_, wanted = _find(settings_class, key)
    if get_origin(wanted) is tuple and not given.startswith("["):
        items = get_args(wanted)[0]
        return key, [_parse_value(item.strip(), items) for item in given.split(",") if item.strip()]
    return key, _parse_value(given, wanted)


def to_toml(settings: Any, title: str) -> str:
    """Write all settings as TOML, each with its explanation above it; a section opens with its class's first line.

    Args:
        settings: a settings object.
        title: comment at the top of the file.

    Raises:
        MissingPackageError: tomlkit is not installed.
    """
    tomlkit = optional_import("tomlkit", extra="cli", purpose="write settings files")
    document = tomlkit.document()
    _add_comment(tomlkit, document, title)
    document.add(tomlkit.nl())
    sections = [item for item in fields(settings) if is_dataclass(getattr(settings, item.name))]
    for item in fields(settings):
        if item not in sections:
            _add_setting(tomlkit, document, item, getattr(settings, item.name))
    for item in sections:
        table = tomlkit.table()
        _add_comment(tomlkit, table, _first_line(type(getattr(settings, item.name))))
        table.add(tomlkit.nl())
        for inner in fields(getattr(settings, item.name)):
            _add_setting(tomlkit, table, inner, getattr(getattr(settings, item.name), inner.name))
        document.add(tomlkit.nl())
        document.add(item.name, table)
    return str(tomlkit.dumps(document))


def _add_comment(tomlkit: Any, container: Any, text: str) -> None:
    for line in textwrap.wrap(text, _LINE):
        container.add(tomlkit.comment(line))


def _first_line(section: type[Any]) -> str:
    """The first line of the docstring of a section's class, which every such class must have."""
    return (section.__doc__ or "").partition("\n")[0]


def _add_setting(tomlkit: Any, container: Any, item: Any, value: Any) -> None:
    _add_comment(tomlkit, container, item.metadata["help"])
    container.add(item.name, list(value) if isinstance(value, tuple) else value)


def _keys(settings_class: type[Any]) -> dict[str, tuple[str | None, Any, Any]]:
    """Section, field and type of every setting by its key."""
    hints = get_type_hints(settings_class)
    found: dict[str, tuple[str | None, Any, Any]] = {}
    for item in fields(settings_class):
        if is_dataclass(hints[item.name]):
            inner_hints = get_type_hints(hints[item.name])
            for inner in fields(hints[item.name]):
                found[f"{item.name}.{inner.name}"] = (item.name, inner, inner_hints[inner.name])
        else:
            found[item.name] = (None, item, hints[item.name])
    assert all(item.default is not MISSING for _, item, _ in found.values())
    return found


def _find(settings_class: type[Any], key: str) -> tuple[str | None, Any, Any]:
    known = _keys(settings_class)
    if key in known:
        return known[key]
    raise ValueError(f"unknown key `{key}`{_nearest(key, list(known))}")


def _nearest(key: str, known: list[str]) -> str:
    """The hint at the known key that is most like an unknown one, also when only the section is wrong."""
    by_name = {name.rpartition(".")[2]: name for name in known}
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    close += [by_name[name] for name in difflib.get_close_matches(key.rpartition(".")[2], by_name, n=1, cutoff=0.6)]
    return f"; did you mean `{close[0]}`?" if close else f"; known keys are {', '.join(known)}"


def _flat(values: Mapping[str, Any], settings_class: type[Any]) -> Iterator[tuple[str, Any]]:
    """Values of a TOML file by key."""
    sections = {key.partition(".")[0] for key in _keys(settings_class) if "." in key}
    for name, value in values.items():
        if name in sections and not isinstance(value, dict):
            raise ValueError(f"expected `{name}` to be a section, [{name}], got {value!r}")
        if isinstance(value, dict):
            if name not in sections:
                hint = difflib.get_close_matches(name, sections, n=1)
                known = f"did you mean [{hint[0]}]?" if hint else f"known sections are {', '.join(sorted(sections))}"
                raise ValueError(f"unknown section [{name}]; {known}")
            for inner, inner_value in value.items():
                yield f"{name}.{inner}", inner_value
        else:
            yield name, value


def _check(key: str, value: Any, wanted: Any, limits: _Limits) -> Any:
    converted = _convert(key, value, wanted)
    if not limits.allow(converted):
        hint = difflib.get_close_matches(str(value), limits.choices, n=1)
        more = f"; did you mean {hint[0]!r}?" if hint else ""
        raise ValueError(f"expected `{key}` {limits.describe()}, got {value!r}{more}")
    return converted


def _convert(key: str, value: Any, wanted: Any) -> Any:
    if get_origin(wanted) is tuple:
        types = get_args(wanted)
        fixed = None if types[-1] is Ellipsis else len(types)
        if not isinstance(value, list | tuple) or (fixed is not None and len(value) != fixed):
            count = "a list" if fixed is None else f"a list of {fixed}"
            raise ValueError(f"expected `{key}` to be {count}, each {_EXPECTED[types[0]]}, got {value!r}")
        return tuple(_convert(f"{key}[{place}]", item, types[0]) for place, item in enumerate(value))
    # By `type`, because a bool is an int to Python, but not to people.
    if wanted is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if wanted is not float and type(value) is wanted:
        return value
    raise ValueError(f"expected `{key}` to be {_EXPECTED[wanted]}, got {value!r}")


def _parse_value(text: str, wanted: Any) -> Any:
    """The TOML value of a text; the text itself where it is none, or where a text is wanted."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return text if wanted is str and not isinstance(value, str) else value

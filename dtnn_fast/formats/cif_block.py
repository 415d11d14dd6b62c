# SPDX-License-Identifier: MIT
"""Data blocks of a CIF: values by tag, whatever the case and the dots of the tags, and numbers with uncertainties."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from ..errors import BadCrystalError

# What stands for a value that is unknown or does not apply.
NOT_GIVEN = (".", "?", "")
# Loops of other categories, such as reflections, are long and not read.
_USED = ("_atom_site", "_cell", "_chemical", "_space_group", "_symmetry")
_QUOTES = frozenset(("'", '"', ";", ""))
# No number can match in two ways, so that long columns take no more than linear time.
_PLAIN_NUMBERS = re.compile(r"(?:[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+) )+")
_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?:\(\d+\))?")


class CifBlock(NamedTuple):
    """A data block.

    Args:
        name: behind data_.
        items: raw values by tag, which is in lower case and with "_" for the "." of DDLm and mmCIF; one value for a
            pair, and a column of a loop.
    """

    name: str
    items: Mapping[str, Sequence[str]]

    @property
    def has_atoms(self) -> bool:
        """Whether there are coordinates of atoms."""
        return any(tag in self.items for tag in ("_atom_site_fract_x", "_atom_site_cartn_x"))

    def column(self, tag: str) -> list[str]:
        """The values of a tag without quotes; "." and "?" stand for values that are not given."""
        values = self.items.get(tag, ())
        if isinstance(values, _Conflict):
            raise BadCrystalError(f"{tag} occurs twice in the block, with different values")
        # Values without quotes have no blanks around them.
        return [_unquoted(value) if value[:1] in _QUOTES else value for value in values]

    def value(self, *tags: str) -> str | None:
        """The first given value of some tags."""
        for tag in tags:
            if tag not in self.items:
                continue
            for value in self.column(tag):
                if value not in NOT_GIVEN:
                    return value
        return None


def items_of(block: Any) -> dict[str, Sequence[str]]:
    """Collect the raw values of a block of gemmi by tag; see `CifBlock`."""
    items: dict[str, Sequence[str]] = {}
    for item in block:
        # Each access of a member of gemmi's classes makes a copy.
        pair = item.pair
        if pair is not None:
            tags, all_values = pair[:1], pair[1:]
        else:
            loop = item.loop
            tags = loop.tags if loop is not None else []
            if not tags or not tags[0].lower().startswith(_USED):
                continue
            all_values = loop.values
        num_tags = len(tags)
        for place, tag in enumerate(map(_plain_tag, tags)):
            values = all_values[place::num_tags]
            if tag not in items or not _is_given(items[tag]):
                items[tag] = values
            elif _is_given(values) and [*map(_unquoted, items[tag])] != [*map(_unquoted, values)]:
                # Not the first or the last of two that differ: an error where the value is needed.
                items[tag] = _Conflict(values)
    return items


def _is_given(values: Sequence[str]) -> bool:
    return any(_unquoted(value) not in NOT_GIVEN for value in values)


class _Conflict(list[str]):
    """The values of a tag that occurs twice in a block with different values."""


@lru_cache(maxsize=1024)
def _plain_tag(tag: str) -> str:
    return tag.lower().replace(".", "_")


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1].strip()
    if value.startswith(";"):
        return value[1:].rstrip("\r\n;").strip()
    return value.strip()


def plain_numbers(texts: Sequence[str]) -> list[float] | None:
    """Read a column of numbers, or return None where one is not a plain decimal number; see `as_number`."""
    return [*map(float, texts)] if _PLAIN_NUMBERS.fullmatch(" ".join(texts) + " ") else None


def as_number(text: str, what: str) -> float:
    """Read a number with or without a standard uncertainty in brackets, such as 4.212(3).

    Args:
        text: value of a tag.
        what: what the number is, for the message.

    Raises:
        BadCrystalError: the text is not a number.
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise BadCrystalError(f"{what} is {text!r}, which is not a number")
    return float(match.group(1))

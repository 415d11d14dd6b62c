# SPDX-License-Identifier: MIT
"""Scalars beside a structure in a document or row, which `Crystal.info` keeps: band gaps, energies, licences."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from .text_files import parse_number

# Longer texts are not names or formulas but input files and remarks, which would fill the memory.
MAX_TEXT = 200
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_WORDS = {"true": True, "false": False, "": None, "none": None, "null": None, "na": None, "n/a": None, "<na>": None}

Scalar = str | bool | int | float


def scalar(value: Any) -> Scalar | None:
    """Return a value that can be kept: a text of up to `MAX_TEXT` characters, a finite number or a boolean, else None.

    Args:
        value: parsed JSON, or a value of NumPy.
    """
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, date | Decimal):  # in Parquet
        value = value.isoformat() if isinstance(value, date) else float(value)
    if isinstance(value, str):
        return value if value and len(value) <= MAX_TEXT else None
    if isinstance(value, bool):
        return value
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def scalars_of(values: Mapping[Any, Any], leave_out: Collection[str] = (), prefix: str = "") -> dict[str, Scalar]:
    """Return the scalars of an object under their own names. NaN, infinity and null stand for unknown and are left out.

    Args:
        values: parsed JSON, or a row of a table.
        leave_out: names that are not kept. Names that begin with "@", which are pymatgen's, are not kept either.
        prefix: put in front of the names.
    """
    kept = {str(key): scalar(value) for key, value in values.items() if key not in leave_out}
    return {f"{prefix}{key}": value for key, value in kept.items() if value is not None and not key.startswith("@")}


def parse_scalar(text: str) -> Scalar | None:
    """Return the value that a cell of a CSV or of a comment line holds: a number or boolean where it looks like one.

    Args:
        text: for example ``1.5``, ``True``, ``Fm-3m`` or ``nan``. Numbers with zeros in front, such as ``0012``, are
            names.
    """
    text = text.strip()
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INTEGER.fullmatch(text):
        return int(text)
    number = None if re.match(r"[-+]?0[0-9]", text) else parse_number(text)
    return scalar(text if number is None else number)

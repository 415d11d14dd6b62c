# SPDX-License-Identifier: MIT
"""JSON files that hold one object."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .errors import BadFileError


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Raises:
        BadFileError: the file is missing, cannot be read, is no JSON, or holds something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadFileError(f"{path}: missing") from error
    except (OSError, ValueError, RecursionError) as error:
        raise BadFileError(f"{path}: cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise BadFileError(f"{path}: expected a JSON object, got {type(values).__name__}")
    return values
